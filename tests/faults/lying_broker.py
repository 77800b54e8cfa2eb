"""A broker whose WAL acknowledges before fdatasync, a planted bug: `python -m tests.faults.lying_broker serve ...`"""

from __future__ import annotations

import broker.adapters
from broker.cli import main
from tests.faults.journal_program import AckBeforeSync

if __name__ == "__main__":
    broker.adapters.FolderWalDevice = AckBeforeSync  # type: ignore[attr-defined]
    main()
