from __future__ import annotations

import json
import random
import tomllib

import numpy as np
import pandas as pd
import pytest
from support.artifacts import write_tokenizer
from support.training import save_encoder

from bsm_core.errors import DataError, MissingColumnsError, UsageError
from bsm_core.plugins.registry import Registry
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.proposal import propose

WORDS = [f"word{i}" for i in range(60)]


def table(count=240, seed=0):
    """Orders of many kinds of columns."""
    rng, draw = np.random.default_rng(seed), random.Random(seed)
    label = rng.integers(0, 2, count)
    return pd.DataFrame(
        {
            "order_id": [f"A{i:05d}" for i in range(count)],
            "row": range(count),
            "customer_id": rng.integers(1000, 1100, count),
            "text": [" ".join(draw.choices(WORDS, k=12)) for _ in range(count)],
            "title": [" ".join(draw.choices(WORDS, k=4)) for _ in range(count)],
            "note": [" ".join(draw.choices(WORDS, k=3)) for _ in range(count)],
            "amount": rng.normal(size=count).round(3),
            "shop": rng.choice(["web", "mail", "store"], count),
            "day": [f"2026-01-{i % 28 + 1:02d}" for i in range(count)],
            "country": "CH",
            "fax": ["1" if i % 50 == 0 else "" for i in range(count)],
            "refund": np.where(label == 1, "yes", "no"),
            "score": label + rng.normal(scale=0.01, size=count),
            "serial": [f"{draw.getrandbits(64):016x}" for _ in range(count)],
            "town": [f"town {draw.randrange(100)}" for _ in range(count)],
            "price": [f"{draw.randrange(100)},{draw.randrange(10)}" for _ in range(count)],
            "label": label,
        }
    )


@pytest.fixture(scope="module")
def built_in():
    return Registry.discover(frozenset())


@pytest.fixture
def proposed(tmp_path, built_in):
    """The config that is proposed for a table, and what each column was taken for."""

    def make(frame, label="label", *, name="rows.csv", **options):
        path = tmp_path / name
        frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
        proposal = propose(path, label, registry=built_in, **options)
        return tomllib.loads(proposal.text), {column: kind for column, kind, _ in proposal.columns}, proposal.text

    return make


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_each_column_is_taken_for_what_it_is(proposed, name):
    config, kinds, text = proposed(table(), name=name)
    assert kinds == {
        "label": "label",
        "order_id": "id, not used",
        "row": "id, not used",
        "customer_id": "id, not used",
        "text": "text",
        "title": "text",
        "note": "text, not used",
        "amount": "number",
        "shop": "category",
        "day": "date, not used",
        "country": "constant, not used",
        "fax": "mostly missing, not used",
        "refund": "tells the label, not used",
        "score": "tells the label, not used",
        "serial": "id, not used",
        "town": "not used",
        "price": "not used",
    }
    assert (config["primary_text_name"], config["secondary_text_name"]) == ("text", "title")
    assert (config["tab_field_list"], config["cat_field_list"]) == (["amount", "shop"], ["shop"])
    assert (config["id_name"], config["label_name"]) == ("order_id", "label")
    assert config["model_class"] == "trimodal_bert"
    assert "'refund' (tells the label): alone, it gives the label of 100.0 % of held-out rows (AUROC 1.000)" in text
    assert "csv_decimal" in text
    assert "missing_indicators" not in config


def test_a_column_that_nearly_tells_the_label_is_a_feature_with_a_comment(proposed):
    frame = table(600)[["amount", "label"]]
    frame["rating"] = (frame["label"] * 2 + np.random.default_rng(1).normal(1, 0.7, 600)).round()
    config, kinds, text = proposed(frame)
    assert kinds["rating"] == "number"
    assert config["tab_field_list"] == ["amount", "rating"]
    assert "# 'rating': alone, it ranks the labels at AUROC 0.9" in text.replace("#   '", "# '")
    assert "leave it out if it is known only after the label" in text


def test_a_label_of_a_few_rows_hides_no_leak_and_is_named(proposed):
    frame = table(600).assign(label=lambda f: np.where(f["label"] == 1, "yes", "no"))
    frame.loc[:3, "label"] = "yess"
    config, kinds, text = proposed(frame[["amount", "refund", "score", "label"]])
    assert (kinds["refund"], kinds["score"]) == ("tells the label, not used",) * 2
    assert config["num_classes"] == 3
    assert "# The label 'yess' has 4 row(s)" in text


ODD_CELLS = {
    "zip": (lambda i: f"{i * 37 % 20:05d}", "category", "20 different values, with leading zeros"),
    "account": (lambda i: f"{i * 77:08d}", "id, not used", "another code in each row, with leading zeros"),
    "shop_id": (lambda i: f"{i % 20:03d}", "id, not used", "20 different values, with leading zeros"),
    "money": (lambda i: f"${i * 13:,}.50", "not used", "amounts such as '$0.50'"),
    "euros": (lambda i: f"{i * 13} EUR" if i % 9 else "unknown", "not used", "amounts such as '13 EUR'"),
    "share": (lambda i: f"{i / 7:.1f}%", "not used", "amounts such as"),
    "grouped": (lambda i: f"{i * 1300:,}.50", "not used", "csv_thousands"),
    "odd": (lambda i: "unknown" if i % 10 == 0 else i / 7, "number", "10 % of the cells are no numbers"),
    "stars": (lambda i: "4+" if i % 10 == 0 else i % 4, "category", "5 different values"),
    "date": (lambda i: f"{i % 28 + 1} Jan 20{i % 20 + 10}", "date, not used", "dates or times such as '1 Jan 2010'"),
    "day": (lambda i: f"March {i % 28 + 1}, 20{i % 20 + 10}" if i % 9 else "unknown", "date, not used", "dates or"),
    "moment": (lambda i: f"2024-01-{i % 28 + 1:02d}T{i % 24:02d}:10:00Z", "date, not used", "dates or times"),
    "clock": (lambda i: f"{i % 12 + 1}:{i % 60:02d} pm", "date, not used", "dates or times such as '1:00 pm'"),
    "phone": (lambda i: f"079 {i:03d} {i * 7 % 1000:03d}", "text, not used", ""),
}


def test_codes_amounts_dates_and_odd_words_are_taken_for_what_they_are(built_in, tmp_path):
    path = tmp_path / "rows.csv"
    frame = table()[["amount", "text", "title", "label"]]
    pd.DataFrame({name: [make(i) for i in range(240)] for name, (make, *_) in ODD_CELLS.items()} | dict(frame)).to_csv(
        path, index=False
    )
    found = {name: (kind, why) for name, kind, why in propose(path, "label", registry=built_in).columns}
    assert {name: found[name][0] for name in ODD_CELLS} == {name: kind for name, (_, kind, _) in ODD_CELLS.items()}
    assert [name for name, (*_, why) in ODD_CELLS.items() if why not in found[name][1]] == []


def test_missing_numbers_get_an_input_that_says_so(proposed, built_in):
    frame = table()[["amount", "shop", "label"]]
    frame.loc[::7, "amount"] = None
    config, *_ = proposed(frame)
    assert config["missing_indicators"] is True
    TrainingJob(config, built_in)
    config, *_ = proposed(frame, changes={"compat": "original"})
    assert "missing_indicators" not in config
    TrainingJob(config, built_in)


def test_without_an_id_it_is_said_how_to_score(proposed):
    config, _, text = proposed(table()[["amount", "label"]])
    assert "id_name" not in config
    assert "name any column" in text


@pytest.mark.parametrize(
    ("columns", "model_class"),
    [
        (["text"], "bert"),
        (["text", "amount"], "bimodal_bert"),
        (["amount", "shop"], "tabular"),
        (["text", "title"], "trimodal_bert"),
        (["text", "title", "shop"], "trimodal_bert"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else value,
)
def test_the_columns_decide_the_model_class_and_the_config_has_no_problem(
    proposed, built_in, caplog, columns, model_class
):
    config, *_ = proposed(table()[[*columns, "label"]])
    assert config["model_class"] == model_class
    caplog.clear()
    job = TrainingJob(config, built_in)
    assert job.training.label_name == "label"
    assert caplog.text == ""


def test_the_same_table_gets_the_same_text(proposed):
    assert proposed(table())[2] == proposed(table())[2]


def test_classes_stand_in_the_order_of_training_with_their_shares(proposed):
    frame = table().assign(label=lambda f: np.where(f["label"] == 1, "b", np.where(f["amount"] > 0, "a", "c")))
    frame.loc[:4, "label"] = None
    config, _, text = proposed(frame[["amount", "label"]])
    assert (config["num_classes"], config["multiclass_categories"]) == (3, ["a", "b", "c"])
    assert config["on_missing_label"] == "skip"
    assert "5 rows have no label" in text


def test_keys_that_the_caller_sets_replace_those_that_are_proposed(proposed):
    changes = {"max_epochs": 2, "text_encoder": {"model_type": "electra"}, "odd key": [1], "csv_decimal": ","}
    config, kinds, _ = proposed(table()[["text", "price", "label"]], changes=changes)
    assert (config["max_epochs"], config["text_encoder"], config["odd key"]) == (2, {"model_type": "electra"}, [1])
    assert config["csv_decimal"] == ","
    assert kinds["price"] == "number"


def test_a_pretrained_encoder_is_named_with_its_tokenizer_and_its_positions(proposed, built_in, tmp_path):
    save_encoder(tmp_path / "encoder")
    write_tokenizer(tmp_path / "encoder")
    config, *_ = proposed(table()[["text", "label"]], pretrained=str(tmp_path / "encoder"))
    assert config["text_encoder"] == config["tokenizer"] == str(tmp_path / "encoder")
    assert config["max_sen_len"] <= 16
    assert "vocab_size" not in config
    assert "pooling" not in config
    assert config["encoder_lr"] == 5e-5


@pytest.mark.parametrize(
    ("modes", "pooling", "said"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "include_prompt": True}, "mean", ""),
        ({"pooling_mode_cls_token": True}, "cls", ""),
        ({"pooling_mode": "mean"}, "mean", ""),
        ({"pooling_mode_max_tokens": True}, None, "pooling 'max_tokens', which bsm does not have"),
    ],
)
def test_the_pooling_of_sentence_transformers_is_proposed(proposed, built_in, tmp_path, modes, pooling, said):
    save_encoder(tmp_path / "encoder")
    write_tokenizer(tmp_path / "encoder")
    (tmp_path / "encoder/1_Pooling").mkdir()
    (tmp_path / "encoder/1_Pooling/config.json").write_text(json.dumps(modes))
    config, _, text = proposed(table()[["text", "title", "label"]], pretrained=str(tmp_path / "encoder"))
    assert config.get("pooling") == pooling
    assert said in text
    assert TrainingJob(config, built_in).values.get("pooling") == pooling


@pytest.mark.parametrize("settings", [{"r": 4}, {}])
def test_adapters_are_proposed_with_their_learning_rate(proposed, built_in, tmp_path, settings):
    save_encoder(tmp_path / "encoder")
    write_tokenizer(tmp_path / "encoder")
    options = {"pretrained": str(tmp_path / "encoder"), "changes": {"lora": settings}}
    config, *_ = proposed(table()[["text", "label"]], **options)
    assert (config["lora"], config["encoder_lr"]) == (settings, 2e-4)
    lora = TrainingJob(config, built_in).training.lora
    assert lora is not None
    assert lora.r == settings.get("r", 8)


@pytest.mark.parametrize(
    ("change", "options", "error", "words"),
    [
        ({}, {"label": "lable"}, MissingColumnsError, "'label'"),
        ({"label": 1}, {}, DataError, "the label has one class: 1"),
        ({"label": None}, {}, DataError, "no row has a label"),
        ({"label": range(240)}, {}, DataError, "so it seems to be a quantity"),
        ({"label": np.linspace(0, 1, 240)}, {}, DataError, "so it seems to be a quantity"),
        ({"label": [f"c{i}" for i in range(240)]}, {}, DataError, "240 different values in 240 rows"),
        ({}, {"pretrained": "acme/none"}, UsageError, "hf download acme/none"),
    ],
    ids=["label", "one class", "none", "whole", "quantity", "texts", "pretrained"],
)
def test_what_cannot_be_proposed_for(proposed, change, options, error, words):
    with pytest.raises(error, match=words):
        proposed(table()[["text", "amount", "label"]].assign(**change), **options)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["none", "n/a"] * 120, "category"),
        (["none"] * 238 + ["SAVE10"] * 2, "category"),
        (["NA", "null"] * 100 + ["SAVE10"] * 40, "category"),
        (["none"] * 236 + ["7", "8", "9", "8"], "mostly missing, not used"),
        (["none"] * 100 + ["7", "8"] * 70, "number"),
        (["none"] * 180 + ["7", "8"] * 25 + ["x"] * 10, "category"),
    ],
    ids=["no number", "a few words", "words", "a few numbers", "numbers", "numbers and words"],
)
def test_words_for_missing_cells_make_no_number(proposed, cells, kind):
    frame = table()[["amount", "label"]].assign(promo=random.Random(0).sample(cells, len(cells)))
    assert proposed(frame)[1]["promo"] == kind


def test_lines_that_cannot_be_read_are_left_out_if_the_caller_says_so(built_in, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(table()[["amount", "shop", "label"]].to_csv(index=False) + "1,2,3,4,5\n")
    with pytest.raises(DataError, match="expected 3, found 5"):
        propose(path, "label", registry=built_in)
    found = propose(path, "label", registry=built_in, changes={"on_bad_line": "skip"})
    assert tomllib.loads(found.text)["on_bad_line"] == "skip"
    with pytest.raises(UsageError, match="on_bad_line = 'no' cannot be used"):
        propose(path, "label", registry=built_in, changes={"on_bad_line": "no"})


@pytest.mark.parametrize("value", [float("nan"), [1, None], {"a": float("inf")}])
def test_what_toml_cannot_hold_is_an_error(proposed, value):
    with pytest.raises(UsageError, match="cannot be written as TOML"):
        proposed(table()[["amount", "label"]], changes={"odd": value})


def test_labels_keep_their_spelling(proposed, built_in):
    config, *_ = proposed(table()[["amount", "label"]].assign(label=lambda f: f["label"] == 1))
    assert config["multiclass_categories"] == ["False", "True"]
    TrainingJob(config, built_in)


def test_without_a_column_to_learn_from_each_is_told_with_the_reason(proposed):
    with pytest.raises(DataError, match="no column can be used") as caught:
        proposed(table()[["order_id", "country", "label"]])
    assert caught.value.details == ("order_id: id: another code in each row", "country: constant: always 'CH'")


def test_odd_names_and_texts_stay_what_they_are(proposed):
    frame = table()[["amount", "label"]].rename(columns={"amount": 'a"b\\ü\x7f = [#'})
    frame["label"] = np.where(frame["label"] == 1, 'yes "\n', "no\t")
    config, *_ = proposed(frame)
    assert config["tab_field_list"] == ['a"b\\ü\x7f = [#']
    assert set(config["multiclass_categories"]) == {'yes "\n', "no\t"}


def test_rows_are_sampled_over_the_whole_table(proposed, monkeypatch):
    monkeypatch.setattr("bsm_core.training.proposal.sampled_rows.ROWS", 50)
    frame = table(9_000)[["amount", "label"]].sort_values("label")
    frame["late"] = ["a"] * 8_000 + ["b", "c"] * 500
    config, kinds, text = proposed(frame, name="rows.parquet")
    assert kinds["late"] == "category"
    assert "9,000 rows with a label" in text
    assert config["num_classes"] == 2
