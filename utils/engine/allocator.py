"""How the C library hands out large blocks of host memory."""

import ctypes

# Of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Let freed blocks be used again instead of returning each to the system.

    glibc maps every block above 32 MiB freshly and unmaps it when it is freed. The system then
    fills the pages of each feature map with zeros before a network on the CPU writes them, which
    took longer than much of the arithmetic: docs/performance.md has the figures. Returns False
    where the C library has no such setting; nothing is changed there.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 64 * 2**20}
    return all([mallopt(option, value) for option, value in wanted.items()])
