"""Run a command whose disk is full: `python full_disk.py LEAST COMMAND …`.

Every write of LEAST bytes or more to a file fails with ENOSPC, by a seccomp filter: that needs no
privilege, no file system of its own and no space, so it works on any Linux, in a container too.
With LEAST 1 nothing at all can be written. Larger ones let what is small through, as a disk does
that has a few bytes left; then SQLite and DuckDB, which write at a position, are let through whole.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

# write and pwrite64, in syscall_64.tbl of arch/x86 and in include/uapi/asm-generic/unistd.h
_SYSCALLS = {"x86_64": (1, 18), "aarch64": (64, 68)}
_LOAD, _EQUAL, _GREATER, _AT_LEAST, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x06
_NUMBER, _FIRST_ARGUMENT, _THIRD_ARGUMENT = 0, 16, 32  # offsets in struct seccomp_data
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.ENOSPC
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2


def fill(least: int) -> None:
    """Let no write of `least` bytes or more to a file succeed, here and in all children."""
    write, pwrite = _SYSCALLS[platform.machine()]
    steps = [  # code, steps to skip if so, if not, operand
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 2, 0, write),
        (_EQUAL, 1 if least == 1 else 0, 0, pwrite),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_GREATER, 0, 3, 2),  # the three standard streams are no files
        (_LOAD, 0, 0, _THIRD_ARGUMENT),
        (_AT_LEAST, 0, 1, least),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _FILTER, ctypes.c_void_p(ctypes.addressof(program)), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the kernel refuses the filter")


if __name__ == "__main__":
    fill(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
