"""Python programs that die below Python: by ctypes, in callbacks, in threads. Frames of the interpreter itself lie on the stack."""

import ctypes
import os
import signal
import sys
import threading
import time


def null():
    ctypes.string_at(0)


def abort():
    os.abort()


def callback():
    """A comparison in Python, called by qsort through a closure that libffi makes at run time."""
    libc = ctypes.CDLL(None)
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    values = (ctypes.c_int * 3)(3, 1, 2)
    libc.qsort(values, 3, ctypes.sizeof(ctypes.c_int), kind(lambda left, right: null()))


def thread():
    threading.Thread(target=null, name="worker").start()
    time.sleep(60)


def waiting_threads():
    lock = threading.Lock()
    lock.acquire()
    event = threading.Event()
    reader, _ = os.pipe()
    for wait in (lock.acquire, event.wait, lambda: time.sleep(60), lambda: os.read(reader, 1)):
        threading.Thread(target=wait, daemon=True).start()
    time.sleep(0.3)
    null()


def recursion():
    """Python calls that each take frames of C: the interpreter calls itself through sorted() and a key function."""

    def deeper(depth):
        return null() if depth == 0 else sorted([depth - 1], key=deeper)[0]

    deeper(40)


def comprehension():
    print(sum(null() or value for value in range(3)))


def handler():
    signal.signal(signal.SIGUSR1, lambda number, frame: null())
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(60)


def at_exit():
    import atexit

    atexit.register(null)


def finalizer():
    class Loud:
        def __del__(self):
            null()

    Loud()


def event_loop():
    import asyncio

    async def inner():
        await asyncio.sleep(0.01)
        null()

    async def outer():
        await asyncio.gather(inner(), asyncio.sleep(60))

    asyncio.run(outer())


{
    "null": null,
    "abort": abort,
    "callback": callback,
    "thread": thread,
    "waiting-threads": waiting_threads,
    "recursion": recursion,
    "comprehension": comprehension,
    "handler": handler,
    "at-exit": at_exit,
    "finalizer": finalizer,
    "event-loop": event_loop,
}[sys.argv[1]]()
