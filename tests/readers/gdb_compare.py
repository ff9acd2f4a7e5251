#!/usr/bin/env python3
"""Compares our stacks with gdb's, frame by frame, for each kind of crash of `aftermach crash`, and for programs given.

    gdb_compare.py AFTERMACH [-- PROGRAM ARGS]

Each program runs twice, once under `aftermach run` and once under gdb; frames are compared as (image, offset in it). Exits
with 0 if all agree, 1 if not, 77 where there is no gdb. Known differences of gdb, each with its reason:

- A thread's last frames: gdb stops at functions whose tables mark them outermost, and so do we; but in `clone3` and `_start`
  either may show one frame more. Trailing frames in the C library's start code are not compared.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT = 120

# Kinds, and how often gdb must be told to go on before the deadly stop.
KINDS = {
    "null-read": 0,
    "null-write": 0,
    "readonly-write": 0,
    "non-canonical": 0,
    "abort": 0,
    "panic": 0,
    "double-panic": 0,
    "stack-overflow": 0,
    "guarded-stack-overflow": 1,
    "deep-recursion": 0,
    "illegal-instruction": 0,
    "breakpoint": 0,
    "divide-by-zero": 0,
    "bus-error": 0,
    "fault-in-handler": 0,
    "abort-in-handler": 1,
    "named-thread": 0,
    # gdb finds no caller of a call to nowhere without help from frame pointers; ours must: tests/kinds.rs asserts it.
    # "null-call", "wild-jump"
}
# As gdb_stacks.py has it.
GDB_MOST = 400
# Where the stack ends depends on the environment's size, and so does the instruction that runs out of it.
VARYING_DEPTH = ("recurse_forever", "black_box")
START_CODE = ("_start", "clone", "clone3", "__clone", "__clone3", "start_thread", "__libc_start_main", "__libc_start_call_main")


def ours(tool, command, folder):
    store = os.path.join(folder, "store")
    # Without address randomisation, as under gdb: the C library then takes the same way in both.
    prefix = ["setarch", "-R"] if shutil.which("setarch") else []
    subprocess.run(
        prefix + [tool, "run", "--store", store, "--"] + command,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LIMIT,
    )
    found = [
        os.path.join(path, "report.json") for path, _, files in os.walk(store) if "report.json" in files
    ]
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} reports where one was expected")
    with open(found[0]) as file:
        report = json.load(file)
    images = report["images"]
    threads = []
    for thread in report["threads"]:
        frames = []
        for index, frame in enumerate(thread["frames"]):
            if not frame.get("inlined"):
                if "image" in frame:
                    image = os.path.basename(images[frame["image"]]["path"])
                    frames.append([image, int(frame["offset"], 16), frame.get("function", "?")])
                else:
                    frames.append(["", int(frame["address"], 16), "?"])
            for fold in thread.get("folds", []):
                if index == fold["first"] + fold["length"] - 1:
                    run = [f for f in frames[-fold["length"]:]]
                    frames.extend(run * min(fold["omitted"], 500))
        threads.append({"name": thread.get("name", ""), "crashed": thread.get("crashed", False), "frames": frames})
    return threads


def gdbs(command, continues, folder):
    out = os.path.join(folder, "gdb.json")
    environment = dict(os.environ, AFTERMACH_GDB_OUT=out, AFTERMACH_GDB_CONTINUE=str(continues))
    result = subprocess.run(
        ["gdb", "-batch", "-nx", "-x", os.path.join(HERE, "gdb_stacks.py"), "--args"] + command,
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT,
    )
    if not os.path.exists(out):
        raise RuntimeError(f"gdb said nothing: {result.stderr[-500:]}")
    with open(out) as file:
        return json.load(file)


def core(frames):
    """The frames without the start code at their end, whose last one or two differ between unwinders."""
    while frames and (frames[-1][2] in START_CODE or frames[-1][2] == "?" and frames[-1][0].startswith(("libc.", "ld-"))):
        frames = frames[:-1]
    return [frame[:2] for frame in frames]


def without_varying_depth(frames):
    return [frame for frame in frames if not any(name in frame[2] for name in VARYING_DEPTH)]


def compare(label, tool, command, continues):
    with tempfile.TemporaryDirectory() as folder:
        mine, theirs = ours(tool, command, folder), gdbs(command, continues, folder)
    if len(mine) != len(theirs):
        return [f"{label}: {len(mine)} threads, gdb has {len(theirs)}"]
    wrong = []
    by_name = lambda threads: sorted(threads, key=lambda thread: (not thread["crashed"], thread["name"]))
    for a, b in zip(by_name(mine), by_name(theirs)):
        # gdb was asked for so many frames only; what it has must be the start of what we have.
        truncated = len(b["frames"]) >= GDB_MOST
        if "stack-overflow" in label and a["crashed"]:
            a["frames"], b["frames"] = without_varying_depth(a["frames"]), without_varying_depth(b["frames"])
        left, right = core(a["frames"]), core(b["frames"])
        if truncated:
            left = left[: len(right)]
        if left != right:
            at = next((i for i, (x, y) in enumerate(zip(left, right)) if x != y), min(len(left), len(right)))
            show = lambda frames: [f"{f[0]}+{f[1]:#x} {f[2]}" for f in frames[max(0, at - 1):at + 3]]
            wrong.append(
                f"{label}: thread {a['name']!r} differs at frame {at} of {len(left)} and {len(right)}:\n"
                f"    ours {show(a['frames'])}\n    gdb  {show(b['frames'])}"
            )
    return wrong


def main():
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    if not shutil.which("gdb"):
        print("SKIP: there is no gdb here")
        return 77
    tool = os.path.abspath(sys.argv[1])
    if sys.argv[2:3] == ["--"]:
        cases = [(" ".join(sys.argv[3:]), sys.argv[3:], 0)]
    else:
        cases = [(kind, [tool, "crash", kind, "--threads", "3", "--after", "200"], n) for kind, n in KINDS.items()]
    wrong = []
    for label, command, continues in cases:
        try:
            found = compare(label, tool, command, continues)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            found = [f"{label}: {error}"]
        print(f"{'differs' if found else 'agrees '} {label}")
        wrong += found
    for line in wrong:
        print(line)
    print(f"gdb: {len(cases)} crashes compared, {len(wrong)} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
