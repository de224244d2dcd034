"""The server of python-hl7 (hl7.mllp), with a message on disk before it is answered: what the gateway is compared with.

python3 -m venv venv && venv/bin/pip install hl7==0.4.5
"""

import asyncio
import os
import sys

from hl7.mllp import start_hl7_server

log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


async def serve(reader, writer):
    try:
        while not writer.is_closing():
            message = await reader.readmessage()
            os.write(log, str(message).encode())
            # In a thread, so that messages of other connections are read meanwhile.
            await asyncio.to_thread(os.fdatasync, log)
            writer.writemessage(message.create_ack())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    async with await start_hl7_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        print(f"{host}:{port}", flush=True)
        await server.serve_forever()


asyncio.run(main())
