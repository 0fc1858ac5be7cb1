"""Training in a process of its own: a fresh Python that one backend has to itself, behind the same `BackendTrainer`.

`process` starts and asks it, `remote` is the trainer that core holds, `travel` says what goes over and what cannot,
`channel` and `carried` are how. `aligntune_core.worker` is the other side.
"""

from aligntune_core.isolation.process import Worker
from aligntune_core.isolation.remote import RemoteTrainer
from aligntune_core.isolation.travel import check_travels

__all__ = ["RemoteTrainer", "Worker", "check_travels"]
