"""Lambda: the duration of an invocation, and access to a function's Runtime API."""

import hmac
import secrets
import socketserver

from .replacing import wrap


def latency():
    """An invocation takes no longer than the function.

    A Lambda's Runtime API answers in two small writes, and Nagle's algorithm holds the second until the first is
    acknowledged, 40 ms later.
    """
    socketserver.StreamRequestHandler.disable_nagle_algorithm = True


def every_line():
    """The log of an ended invocation has everything that the function printed.

    MiniStack waits 50 ms for the first line. On a busy machine the line comes later, and MiniStack keeps it for the
    next invocation of the same sandbox, which may never come. Here a function gets a second, which it rarely needs; one
    that printed nothing the first time is not waited for again.
    """
    from ministack.core import lambda_runtime

    def make_drain(original):
        def drain(self, first_line_wait=None, idle_confirm=0.005, hard_cap=2.0):
            if first_line_wait is None:
                first_line_wait = {None: 1.0, True: 1.0, False: 0.010}[getattr(self, "prints", None)]
            log = original(self, first_line_wait, idle_confirm, hard_cap)
            self.prints = bool(log) or getattr(self, "prints", None) is True
            return log
        return drain

    wrap(lambda_runtime.Worker, "_drain_stderr_bounded", make_drain)


def own_runtime_api():
    """A Runtime API answers only its own process: its address ends with a path that only that process knows.

    AWS: it is reachable only from inside the function's sandbox. MiniStack's is a port of the loopback interface,
    which would give any process of the machine the next event, and accept any answer as the function's.
    """
    from ministack.core import lambda_runtime
    from ministack.services import lambda_svc

    key = secrets.token_bytes(32)

    def path(port):
        return hmac.digest(key, str(port).encode(), "sha256").hex()

    def make_environment(original):
        def provided_worker_env(config, code_dir, port):
            environment = original(config, code_dir, port)
            return {**environment, "AWS_LAMBDA_RUNTIME_API": f"http://127.0.0.1:{port}/{path(port)}"}
        return provided_worker_env

    def make_handler(original):
        def build_handler_class(self, generation, pending):
            class OwnProcessOnly(original(self, generation, pending)):
                def parse_request(self):
                    if not super().parse_request():
                        return False
                    own = f"/{path(self.server.server_address[1])}/"
                    if hmac.compare_digest(self.path[:len(own)].encode(), own.encode()):
                        return True
                    self.close_connection = True
                    self.send_error(403)
                    return False
            return OwnProcessOnly
        return build_handler_class

    wrap(lambda_svc, "_provided_worker_env", make_environment)
    wrap(lambda_runtime.ProvidedWorker, "_build_handler_class", make_handler)
