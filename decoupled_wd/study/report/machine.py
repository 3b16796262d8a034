"""Which machine a report was made on."""

import os
import platform
import re
from pathlib import Path


def machine() -> str:
    """Names the model and the number of processors, and never the host."""
    return f"{processor()}, {os.cpu_count()} cores"


def processor() -> str:
    """Names the model of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text("utf-8", "replace") if cpuinfo.exists() else ""
    models = re.findall(r"model name\s*: (.+)", text)
    # on Linux platform.processor() is often empty
    return models[0] if models else platform.processor() or platform.machine()
