"""Sends messages with the clients of python-hl7 and prints code and control id of each acknowledgment.

Usage: python_client.py HOST PORT
"""

import asyncio
import sys

import hl7
from hl7.client import MLLPClient
from hl7.mllp import open_hl7_connection


def adt(control_id):
    return (
        f"MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102030405||ADT^A01^ADT_A01|{control_id}|P|2.5.1||||||UNICODE UTF-8\r"
        "PID|1||4711^^^WEST^MR||M\u00fcller^J\u00f6rg||19700101|M\r"
    )


def show(ack):
    print(ack["MSA"][0][1], ack["MSA"][0][2], flush=True)


def blocking(host, port):
    with MLLPClient(host, port) as client:
        for nth in range(3):
            answer = client.send_message(hl7.parse(adt(f"SYNC{nth}")))
            assert answer[:1] == b"\x0b" and answer[-2:] == b"\x1c\r", answer
            show(hl7.parse(answer[1:-2].decode()))


async def streaming(host, port):
    reader, writer = await open_hl7_connection(host, port, encoding="utf-8")
    for nth in range(20):
        writer.writemessage(hl7.parse(adt(f"ASYNC{nth}")))
    await writer.drain()
    for _ in range(20):
        show(await reader.readmessage())
    writer.close()
    await writer.wait_closed()


blocking(sys.argv[1], int(sys.argv[2]))
asyncio.run(streaming(sys.argv[1], int(sys.argv[2])))
