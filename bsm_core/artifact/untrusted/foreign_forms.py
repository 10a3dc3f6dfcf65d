"""Forms in which other tools write weights, and the command that makes ``model.pth`` of each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class ForeignForm:
    """Files that hold weights in a form that is not read.

    Attributes:
        names: Pattern of the files' names, without their folders.
        what: Name of the form.
        fix: How to make ``model.pth`` or ``model.safetensors``. ``{path}`` stands for the file, ``{folder}`` for its
            folder and ``{above}`` for the folder around that.
    """

    names: re.Pattern[str]
    what: str
    fix: str


def _form(names: str, what: str, fix: str) -> ForeignForm:
    return ForeignForm(re.compile(names), what, fix)


_SHARDS = (
    'python -c "from glob import glob; from safetensors.torch import load_file, save_file; weights = {};'
    " [weights.update(load_file(f)) for f in glob('{folder}/*-of-*.safetensors')];"
    " save_file(weights, 'model.safetensors')\""
)
_BINARY_SHARDS = (
    "python -c \"from glob import glob; import torch; weights = {}; [weights.update(torch.load(f, map_location='cpu',"
    " weights_only=True)) for f in glob('{folder}/*-of-*.bin')]; torch.save(weights, 'model.pth')\""
)
FORMS = (
    _form(
        r"(?:bf16_|fp16_)?zero_pp_rank_.*\.pt|mp_rank_\d+_model_states\.pt|zero_to_fp32\.py",
        "a DeepSpeed checkpoint, whose weights are spread over several files",
        'where DeepSpeed is installed, run `python -c "from lightning.pytorch.utilities.deepspeed import'
        " convert_zero_checkpoint_to_fp32_state_dict as convert; convert('{above}', 'weights.pth')\"`, or"
        " zero_to_fp32.py of the checkpoint, and name the result model.pth",
    ),
    _form(
        r".*\.distcp",
        "a checkpoint of FSDP (torch.distributed.checkpoint), whose weights are spread over several files",
        "run `python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pth`, and name the"
        " result model.pth",
    ),
    _form(
        r".*\.safetensors\.index\.json|.*-\d+-of-\d+\.safetensors",
        "weights that are sharded into several files",
        f"run `{_SHARDS}`",
    ),
    _form(
        r"pytorch_model\.bin\.index\.json|pytorch_model-\d+-of-\d+\.bin",
        "weights that are sharded into several files",
        f"run `{_BINARY_SHARDS}`",
    ),
    _form(
        r"adapter_model\.(?:safetensors|bin)",
        "an adapter (PEFT), which holds only what was added to a model",
        "merge it in the training environment with merge_and_unload(), and save the state_dict() of the whole model as"
        " model.pth",
    ),
    _form(
        r"pytorch_model(?:_fsdp)?\.bin|[^/]*\.ckpt|[^/]*\.pth?|[^/]*\.safetensors",
        "weights under another name",
        "if these are the weights of the whole model, run `mv {path} {target}`",
    ),
    _form(r"tf_model\.h5|flax_model\.msgpack|[^/]*\.keras", "weights of another framework", "train with PyTorch"),
)
_OTHERS = re.compile(r"model_artifacts\.pth|training_args\.bin|optimizer\.pth?|scheduler\.pth?|rng_state.*")


def in_command(name: str, placeholder: str) -> str:
    """Return a name from outside as a command that is printed may hold it: a placeholder if a shell could run it.

    Args:
        name: Name of a file, or a key in one.
        placeholder: Text in place of a name that has other characters than letters, digits and ``._/=+-``, or begins
            with a hyphen, as an option does.
    """
    return name if re.fullmatch(r"[\w./=+][\w./=+-]*", name, re.ASCII) else placeholder


def foreign_weights(names: Iterable[str]) -> tuple[str, str] | None:
    """Return what the weights of an artifact without ``model.pth`` seem to be, and how to convert them.

    Args:
        names: Paths of all files, relative to the artifact.

    Returns:
        One line that names a file and its form, and the advice; None if no file looks like weights.
    """
    candidates = [path for path in names if not _OTHERS.fullmatch(path.rpartition("/")[2])]
    for form in FORMS:
        for path in candidates:
            if form.names.fullmatch(path.rpartition("/")[2]):
                folder = path.rpartition("/")[0] or "."
                above = folder.rpartition("/")[0] or "."
                target = "model.safetensors" if path.endswith(".safetensors") else "model.pth"
                places = {"path": path, "folder": folder, "above": above}
                fix = form.fix.replace("{target}", target)
                for key, place in places.items():
                    fix = fix.replace(f"{{{key}}}", in_command(place, key.upper()))
                return f"found {path}: {form.what}", fix
    return None


def foreign_members(names: Iterable[str]) -> tuple[str, str] | None:
    """Return what a zip file is that holds a program beside its tensors, and how to convert it; None if it is none.

    Args:
        names: Names of the zip file's members.
    """
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return (
            "is a TorchScript program (torch.jit.save), which bsm does not run",
            'save model.state_dict() of the model before it was scripted; or run `python -c "import torch;'
            " torch.save(torch.jit.load('model.pth', 'cpu').state_dict(), 'weights.pth')\"`, if you trust the file",
        )
    if inner & {"archive_format", "serialized_exported_program.json"}:
        return (
            "is a program of torch.export, which bsm does not run",
            'save model.state_dict() of the model before it was exported; or run `python -c "import torch;'
            " torch.save(torch.export.load('model.pth').state_dict, 'weights.pth')\"`, if you trust the file",
        )
    return None
