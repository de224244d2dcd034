"""The request that is being served, for rules that need its body."""

import contextvars

# (method, body)
served = contextvars.ContextVar("sluice_http", default=("", b""))
