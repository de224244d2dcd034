"""Requests over the loopback interface."""

import ipaddress

from .replacing import wrap


def loopback_is_secure():
    """Requests over the loopback interface count as aws:SecureTransport.

    AWS: the key says whether a request came over TLS, and the bucket policies deny those that did not. The local
    endpoint is plain HTTP on 127.0.0.1, where nobody can listen in. There the denial has nothing to protect, and
    would refuse every local request.
    """
    from ministack import app

    def make_pin(original):
        def pin_request_origin(source_ip, secure_transport):
            try:
                loopback = ipaddress.ip_address(source_ip).is_loopback
            except ValueError:
                loopback = False
            return original(source_ip, secure_transport or loopback)
        return pin_request_origin

    wrap(app, "pin_request_origin", make_pin)
