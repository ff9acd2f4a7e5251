"""Runs inside gdb, on a program and its core file: `gdb -batch -nx -x gdb_core.py PROGRAM CORE`. Writes every thread's frames to the
file named by $AFTERMACH_GDB_OUT, as JSON: {LWP: {"frames": [...], "stop": REASON}}.

A frame is {"pc", "names", "inlined", "line"}: the names that gdb has for the function, by debug information and by the symbol
table; the functions that are inlined at that place, innermost first, each with its line; the line of the function itself.
Frames of tail calls that gdb makes up from call-site information are left out: they are no frames of the stack.
"""

import json
import os
import re

import gdb


def symbol_table_name(pc):
    """The name that the symbol table has: gdb's "minimal symbol"."""
    text = gdb.execute(f"info symbol {pc:#x}", to_string=True)
    found = re.match(r"(.*?)(?: \+ \d+)? in section ", text)
    return found.group(1) if found else None


def demangled(name):
    if not name or not name.startswith("_"):
        return None
    # Rust's two ways of mangling; gdb takes names for C++ where it is not told.
    language = "-l rust " if name.startswith("_R") or "17h" in name else ""
    try:
        return gdb.execute(f"demangle {language}-- {name}", to_string=True).strip()
    except gdb.error:
        return None  # it is not mangled


def names(frame, pc):
    function = frame.function()
    linkage = function and function.linkage_name
    found = [frame.name(), linkage, demangled(linkage), symbol_table_name(pc) if pc else None]
    return [name for name in dict.fromkeys(found) if name]


def lookup_address(frame):
    """Inside the call, for a frame that called: a call that does not return may be a function's last instruction."""
    inner = frame.newer()
    while inner is not None and inner.type() in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
        inner = inner.newer()
    called = inner is not None and inner.type() != gdb.SIGTRAMP_FRAME and frame.type() != gdb.SIGTRAMP_FRAME
    return frame.pc() - 1 if called else frame.pc()


def frames(most):
    found, inlined = [], []
    frame = gdb.newest_frame()
    stop = ""
    while frame is not None and len(found) < most:
        line = frame.find_sal().line
        if frame.type() == gdb.INLINE_FRAME:
            inlined.append([names(frame, None), line])
        elif frame.type() != gdb.TAILCALL_FRAME:
            pc = frame.pc()
            found.append({"pc": pc, "names": names(frame, lookup_address(frame)), "inlined": inlined, "line": line})
            inlined = []
        else:
            inlined = []
        stop = gdb.frame_stop_reason_string(frame.unwind_stop_reason())
        frame = frame.older()
    return found, stop


def main():
    settings = ("backtrace past-main on", "backtrace past-entry on", "backtrace limit unlimited", "print demangle on")
    for setting in settings:
        gdb.execute(f"set {setting}")
    most = int(os.environ.get("AFTERMACH_GDB_FRAMES", "400"))
    threads = {}
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        try:
            found, stop = frames(most)
        except gdb.error as error:
            found, stop = [], str(error)
        threads[thread.ptid[1]] = {"frames": found, "stop": stop}
    with open(os.environ["AFTERMACH_GDB_OUT"], "w") as out:
        json.dump(threads, out)


main()
