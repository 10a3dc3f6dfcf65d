"""Local engine: one process for each device, each running Lightning's Trainer.

A process alone reads the whole table. Of several processes, each asks for work when it has none, scores the windows
that it is given and writes their parts; the process that hands out the work appends their records to the manifest. When
all parts are written, rank 0 (the first process; a rank is Lightning's number of one) combines them into the prediction
file and writes the markers.
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from functools import partial

from bsm_core.backends.choose import ChosenBackends
from bsm_core.runtime.handout import Address, handing_back
from bsm_core.runtime.profile import notify
from bsm_core.scoring.engines.callbacks import PartWriter, Progress, WindowProgress
from bsm_core.scoring.engines.devices import DevicePlan
from bsm_core.scoring.engines.finish import RunResult, finish
from bsm_core.scoring.engines.scorer import Scorer
from bsm_core.scoring.engines.work import Job
from bsm_core.scoring.output.row_issues import BadRowLimit
from bsm_core.tables.splits import known_rows


def score(job: Job, plan: DevicePlan, rank: int = 0, address: Address | None = None) -> RunResult | None:
    """Score the windows of one process; on rank 0, also write the prediction file and the markers.

    Args:
        job: The job.
        plan: Devices of the job.
        rank: Number of this process, which uses the plan's device of that number.
        address: Where this process asks for work. None: it has no other process to share the work with.

    Returns:
        The prediction file and counts, on rank 0; None on the others.

    Raises:
        BSMError: The data, the artifact, a plugin or a device is at fault.
    """
    scorer = Scorer(job, plan, first=rank == 0)
    limit = BadRowLimit(job.settings.max_bad_rows, job.source.format, job.settings.row_issues)
    for record in job.done.values():
        limit.add(record.counts, record.rows)
    others = job.sink.work if plan.count > 1 else None
    progress = Progress(job.rows_done, known_rows(job.source))
    callbacks = [] if rank else [WindowProgress(progress, others, scorer.times)]
    with ExitStack() as stack:
        sink = job.sink
        if address is not None:
            sink = dataclasses.replace(sink, hand_over=stack.enter_context(handing_back(address)))
        writer = stack.enter_context(PartWriter(sink, limit))
        scorer.predict(
            writer.add,
            partial(_begin, scorer),
            work=address,
            earlier=job.earlier_backends(plan),
            callbacks=callbacks,
        )
    scorer.wait_for_others()  # all their parts are on the disk then
    return None if rank else finish(scorer)


def _begin(scorer: Scorer, chosen: ChosenBackends | None, difference: float | None) -> None:
    notify(scorer.outline(chosen))
    scorer.job.begin(chosen, scorer.plan)
