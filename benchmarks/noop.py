"""A no-op behind the native front, without the service: `python -m benchmarks.noop CORE BYTES`.

Prints its port, answers each call with a number of bytes, and serves until its input ends.
"""

import os
import sys
import threading

from pygrpc_native import EVENT_CALL, NativeGrpcFront

PATH = "/benchmarks.Noop/Answer"


def serve(core: int, answer: bytes) -> None:
    """Serve on a core."""
    os.sched_setaffinity(0, {core})
    front = NativeGrpcFront("127.0.0.1:0", [(PATH, False)], io_threads=1)

    def answer_all() -> None:
        while (events := front.recv_batch(64)) is not None:
            for kind, number, *_ in events:
                if kind == EVENT_CALL:
                    front.respond(number, answer)

    threading.Thread(target=answer_all, daemon=True).start()
    front.start()
    print(front.bound_port, flush=True)  # noqa: T201 - whoever started it reads this
    sys.stdin.read()
    front.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]), bytes(int(sys.argv[2])))
