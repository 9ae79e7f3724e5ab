"""A seccomp filter (Linux) that leaves a process the system calls for computing, and none for files, sockets or others.

Calls that are not allowed fail with EPERM. The filter cannot be removed, and applies to all threads. It is written
without a library: a filter is an array of instructions of the classic BPF machine; see seccomp(2).
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys

__all__ = ["confine"]

_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = (
    0x20,
    0x15,
    0x45,
    0x06,
)  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JSET|K, BPF_RET|K
_NUMBER, _ARCHITECTURE, _FIRST, _THIRD = 0, 4, 16, 32  # offsets in struct seccomp_data: the arguments' lower halves
_ALLOW, _FAIL, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS = 1, 38
_PR_SET_NO_NEW_PRIVS, _SET_MODE_FILTER, _FLAG_TSYNC = 38, 1, 1
_CLONE_THREAD, _PROT_EXEC = 0x00010000, 0x4

# Reading and writing what is open, memory, time, threads of this process, and the end.
_ALLOWED = (
    *("read", "write", "readv", "writev", "lseek", "close", "fstat", "newfstatat", "poll", "ppoll"),
    *("munmap", "mremap", "brk", "madvise", "mincore", "membarrier"),
    *("nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "getrusage"),
    *("futex", "set_robust_list", "rseq", "gettid", "sched_yield", "sched_getaffinity"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall"),
    *("getpid", "getcwd", "getrandom", "exit", "exit_group"),
)


def _number(calls: str) -> dict[str, int]:
    return {name: int(number) for name, _, number in (call.partition("=") for call in calls.split())}


_ARCHITECTURES = {
    # machine: (AUDIT_ARCH, number of seccomp, numbers by name)
    "x86_64": (
        0xC000003E,
        317,
        _number(
            "read=0 write=1 close=3 fstat=5 poll=7 lseek=8 mmap=9 mprotect=10 munmap=11 brk=12 rt_sigaction=13 "
            "rt_sigprocmask=14 rt_sigreturn=15 readv=19 writev=20 sched_yield=24 mremap=25 mincore=27 madvise=28 "
            "nanosleep=35 getpid=39 clone=56 exit=60 getcwd=79 gettimeofday=96 getrusage=98 sigaltstack=131 gettid=186 "
            "futex=202 sched_getaffinity=204 restart_syscall=219 clock_gettime=228 clock_getres=229 "
            "clock_nanosleep=230 exit_group=231 newfstatat=262 ppoll=271 set_robust_list=273 getrandom=318 "
            "membarrier=324 rseq=334 clone3=435"
        ),
    ),
    "aarch64": (
        0xC00000B7,
        277,
        _number(
            "getcwd=17 close=57 lseek=62 read=63 write=64 readv=65 writev=66 ppoll=73 newfstatat=79 fstat=80 exit=93 "
            "exit_group=94 futex=98 set_robust_list=99 nanosleep=101 clock_gettime=113 clock_getres=114 "
            "clock_nanosleep=115 sched_getaffinity=123 sched_yield=124 restart_syscall=128 sigaltstack=132 "
            "rt_sigaction=134 rt_sigprocmask=135 rt_sigreturn=139 getrusage=165 gettimeofday=169 getpid=172 gettid=178 "
            "brk=214 munmap=215 mremap=216 clone=220 mmap=222 mprotect=226 mincore=232 madvise=233 getrandom=278 "
            "membarrier=283 rseq=293 clone3=435"
        ),
    ),
}


def confine() -> bool:
    """Confine this process for good.

    Returns:
        Whether it is confined: False on other systems and processors, and where the kernel or a container forbids it.
    """
    if not sys.platform.startswith("linux") or platform.machine() not in _ARCHITECTURES or sys.maxsize < 2**32:
        return False
    architecture, seccomp, numbers = _ARCHITECTURES[platform.machine()]
    code = _make_filter(architecture, numbers)
    program = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.syscall(seccomp, _SET_MODE_FILTER, _FLAG_TSYNC, header) == 0)


def _make_filter(architecture: int, numbers: dict[str, int]) -> bytes:
    """Assemble the filter: one instruction is (code, jump if true, jump if false, operand)."""
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),  # 32-bit calls have other numbers
        (_LOAD, 0, 0, _NUMBER),
        # The C library then uses clone, whose flags a filter can see.
        (_JUMP_EQUAL, 0, 1, numbers["clone3"]),
        (_RETURN, 0, 0, _FAIL | _ENOSYS),
        # Threads, but no processes.
        (_JUMP_EQUAL, 0, 4, numbers["clone"]),
        (_LOAD, 0, 0, _FIRST),
        (_JUMP_SET, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _FAIL | _EPERM),
    ]
    for name in ("mmap", "mprotect"):  # memory, but no new code
        lines += [
            (_JUMP_EQUAL, 0, 4, numbers[name]),
            (_LOAD, 0, 0, _THIRD),
            (_JUMP_SET, 1, 0, _PROT_EXEC),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _FAIL | _EPERM),
        ]
    for name in _ALLOWED:
        if name in numbers:  # aarch64 has no poll
            lines += [(_JUMP_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, _ALLOW)]
    lines.append((_RETURN, 0, 0, _FAIL | _EPERM))
    return b"".join(struct.pack("HBBI", *line) for line in lines)
