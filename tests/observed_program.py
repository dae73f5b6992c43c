"""Runs `baton` so that its memory can be looked at: `python observed_program.py FILE operator …`.

At SIGUSR1 it collects its garbage and writes into FILE, as JSON, its resident memory in bytes and its objects.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from pathlib import Path

from baton.cli.main import main


def write_memory(file: Path) -> None:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps({"resident": pages * os.sysconf("SC_PAGE_SIZE"), "objects": len(gc.get_objects())}))
    draft.rename(file)


if __name__ == "__main__":
    report = Path(sys.argv.pop(1))
    signal.signal(signal.SIGUSR1, lambda *_: write_memory(report))
    main()
