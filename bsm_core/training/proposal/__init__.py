"""``bsm init``: a training config that is proposed for a table.

Start with :func:`~bsm_core.training.proposal.propose.propose`.
"""

from bsm_core.training.proposal.propose import Proposal, propose

__all__ = ["Proposal", "propose"]
