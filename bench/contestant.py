"""What every contestant shares: the clock from first request to result, and how it reports."""

import json
import resource
import time
from collections.abc import Callable
from decimal import Decimal


def cpu_seconds() -> float:
    """User and system seconds of this process and the children that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def report(work: Callable[[], tuple[int, Decimal]]) -> None:
    """Time `work`, which returns lines and net amount, and print the result as JSON."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    lines, net = work()
    result = {
        "wall": time.perf_counter() - wall,
        "cpu": cpu_seconds() - cpu,
        "lines": lines,
        "net": str(net.quantize(Decimal("0.01"))),
    }
    print(json.dumps(result))
