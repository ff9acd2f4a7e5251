"""Runs inside gdb: `gdb -batch -nx -x gdb_stacks.py --args PROGRAM ARGS`. Lets the program die and writes every thread's
frames to the file named by $AFTERMACH_GDB_OUT, as JSON: [{"name", "crashed", "frames": [[image, offset, function], ...]}, ...].

Frames of inlined functions and tail calls that gdb makes up from call-site information are left out: they are no frames of
the stack. At most MOST frames a thread.
"""

import json
import os

import gdb

MOST = 400


def image_bases():
    """Each mapped file's lowest address, with the address after its last."""
    bases = {}
    for line in gdb.execute("info proc mappings", to_string=True).splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[0].startswith("0x") and fields[-1][0] in "/[":
            start, end, path = int(fields[0], 16), int(fields[1], 16), fields[-1]
            low, high = bases.get(path, (start, end))
            bases[path] = (min(low, start), max(high, end))
    return bases


def locate(bases, pc):
    for path, (low, high) in bases.items():
        if low <= pc < high:
            return [os.path.basename(path), pc - low]
    return ["", pc]


def frames_of(thread, bases):
    thread.switch()
    frames = []
    try:
        frame = gdb.newest_frame()
        while frame is not None and len(frames) < MOST:
            if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
                frames.append(locate(bases, frame.pc()) + [frame.name() or "?"])
            frame = frame.older()
    except gdb.error:
        pass  # what it has is what it could unwind
    return frames


def main():
    for setting in ("pagination off", "confirm off", "debuginfod enabled off", "print thread-events off"):
        try:
            gdb.execute(f"set {setting}")
        except gdb.error:
            pass  # an older gdb without it
    # What the program handles by itself must reach it; what kills it stops it all the same.
    gdb.execute("handle SIGUSR1 nostop noprint pass")
    gdb.execute("run")
    # A first stop may be a fault that a handler deals with: go on until the process is about to die of it.
    for _ in range(int(os.environ.get("AFTERMACH_GDB_CONTINUE", "0"))):
        gdb.execute("continue")
    crashed = gdb.selected_thread()
    bases = image_bases()
    threads = []
    for thread in sorted(gdb.selected_inferior().threads(), key=lambda thread: thread.num):
        name = thread.name or ""
        threads.append({"name": name, "crashed": thread == crashed, "frames": frames_of(thread, bases)})
    with open(os.environ["AFTERMACH_GDB_OUT"], "w") as out:
        json.dump(threads, out)
    gdb.execute("kill")


main()
