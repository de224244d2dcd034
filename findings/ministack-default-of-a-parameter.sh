#!/usr/bin/env bash
# ministack 1.5.33, CloudFormation GetTemplateSummary: a parameter without a default has the default "".
#
# On AWS a ParameterDeclaration has DefaultValue only where the template has Default, so a tool can tell a parameter that must be given
# from one that may be empty. Here both look alike. A tool that asks for the missing values before it creates a stack asks for none, and
# its test against this emulator passes where CreateStack on AWS would refuse. Read the defaults from the template itself.
set -euo pipefail
folder="$(mktemp -d)"
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ministack==1.5.33 boto3==1.43.106
port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
GATEWAY_PORT="$port" BIND_HOST=127.0.0.1 IOT_MTLS_ENABLED=0 venv/bin/python -c 'from ministack.app import main; main()' >log 2>&1 &
server=$!
for _ in $(seq 300); do (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.1; done
venv/bin/python - "$port" <<'PYTHON'
import importlib.metadata
import sys

import boto3

print("ministack", importlib.metadata.version("ministack"))
client = boto3.client("cloudformation", endpoint_url=f"http://127.0.0.1:{sys.argv[1]}", region_name="us-east-1",
                      aws_access_key_id="test", aws_secret_access_key="test")
template = """
Parameters:
  MustBeGiven: { Type: String }
  MayBeEmpty: { Type: String, Default: "" }
Resources:
  Queue: { Type: AWS::SQS::Queue }
"""
found = {it["ParameterKey"]: it.get("DefaultValue") for it in client.get_template_summary(TemplateBody=template)["Parameters"]}
print(found)
if found != {"MustBeGiven": "", "MayBeEmpty": ""}:
    sys.exit("changed: the two can be told apart")
PYTHON
