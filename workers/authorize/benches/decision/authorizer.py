"""The same decision in Python, as a Lambda authorizer with PyJWT and cedarpy would make it, for comparison.

    authorizer.py prepare FOLDER              keys, their JWKS and a token of each provider
    authorizer.py measure FOLDER CALLS WARM   times of decisions, in microseconds, as JSON

All possible work is done before the first request: keys, policies, schema and routes are parsed once.
"""

import json
import pathlib
import sys
import time

import cedarpy
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLOCKS_DIFFER_SECONDS = 60
DAY_SECONDS = 86_400


class Authorizer:
    def __init__(self, policies, issuers, keys):
        """`policies` is a policy folder, `issuers` the deployment's setting, `keys` the JWKS of each provider."""
        self.policies = cedarpy.PolicySet.from_str("\n".join(it.read_text() for it in sorted(policies.glob("*.cedar"))))
        self.schema = cedarpy.Schema.from_str((policies / "schema.cedarschema").read_text())
        routes = json.loads((policies / "routes.json").read_text())
        self.namespace, self.routes = routes["namespace"], routes["routes"]
        self.rules = json.loads((policies / "providers.json").read_text())
        self.issuers = {it["issuer"]: (provider, it["audiences"]) for provider, it in issuers.items()}
        self.keys = {(provider, it.key_id): it for provider, jwks in keys.items() for it in jwt.PyJWKSet.from_dict(jwks).keys}

    def answer(self, event):
        refused = {"isAuthorized": False, "context": {}}
        token = event["headers"].get("authorization", "").removeprefix("Bearer ")
        try:
            unverified = jwt.decode_complete(token, options={"verify_signature": False})
            provider, audiences = self.issuers[unverified["payload"]["iss"]]
            claims = jwt.decode(
                token,
                self.keys[provider, unverified["header"]["kid"]],
                algorithms=["RS256"],
                audience=audiences,
                issuer=unverified["payload"]["iss"],
                leeway=CLOCKS_DIFFER_SECONDS,
                options={"require": ["exp", "iat", "sub"]},
            )
        except (jwt.PyJWTError, KeyError):
            return refused
        rule = self.rules[provider]
        if rule["tokenUse"] and claims.get("token_use") not in rule["tokenUse"]:
            return refused

        attributes = {}
        for name, source in rule.get("attributes", {}).items():
            if value := claims.get(source.get("claim")):
                attributes[name] = value
        route = self.routes[event["routeKey"]]
        for source in route["resource"]["id"]:
            kind, name = source.split(".")
            if resource := (attributes if kind == "principal" else event["pathParameters"]).get(name):
                break
        else:
            return refused
        principal = self.entity(rule["principal"]["type"], claims[rule["principal"]["id"]])
        types = {name: source["type"] for name, source in rule.get("attributes", {}).items()}
        decided = cedarpy.is_authorized(
            {
                "principal": principal,
                "action": self.entity("Action", route["action"]),
                "resource": self.entity(route["resource"]["type"], resource),
                "context": {},
            },
            self.policies,
            [
                {
                    "uid": principal,
                    "attrs": {name: {"__entity": self.entity(types[name], value)} for name, value in attributes.items()},
                    "parents": [],
                },
            ],
            self.schema,
        )
        if not decided.allowed:
            return refused
        context = {"provider": provider, "issuer": claims["iss"], "subject": claims["sub"], **attributes}
        if "token_use" in claims:
            context["tokenUse"] = claims["token_use"]
        return {"isAuthorized": True, "context": context}

    def entity(self, kind, name):
        return {"type": f"{self.namespace}::{kind}", "id": name}


def prepare(folder):
    """For each issuer of FOLDER/issuers.json a key of 2,048 bits, its JWKS, and a token with the claims of FOLDER/claims.json."""
    issuers, claims = (json.loads((folder / name).read_text()) for name in ("issuers.json", "claims.json"))
    now = int(time.time())
    keys, tokens = {}, {}
    for provider, issuer in issuers.items():
        private = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        public = jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
        kid = f"{provider}-1"
        keys[provider] = {"keys": [{"kty": "RSA", "n": public["n"], "e": public["e"], "kid": kid, "alg": "RS256", "use": "sig"}]}
        payload = {
            "iss": issuer["issuer"], "aud": issuer["audiences"][0], "iat": now, "exp": now + DAY_SECONDS, **claims[provider],
        }
        tokens[provider] = jwt.encode(payload, private, algorithm="RS256", headers={"kid": kid})
        if provider == "institutes":
            tokens["unknown kid"] = jwt.encode(payload, private, algorithm="RS256", headers={"kid": "nobody's"})
    (folder / "keys.json").write_text(json.dumps(keys))
    (folder / "tokens.json").write_text(json.dumps(tokens))


def measure(folder, calls, warm):
    """For each of FOLDER/cases.json, `{"name", "policies", "event", "allowed"}`, the time of each call."""
    issuers, keys, cases = (json.loads((folder / name).read_text()) for name in ("issuers.json", "keys.json", "cases.json"))
    times = {}
    for case in cases:
        authorizer = Authorizer(folder / case["policies"], issuers, keys)
        each = []
        for call in range(warm + calls):
            began = time.perf_counter_ns()
            answer = authorizer.answer(case["event"])
            took = time.perf_counter_ns() - began
            if answer["isAuthorized"] != case["allowed"]:
                sys.exit(f"{case['name']}: {answer}")
            if call >= warm:
                each.append(took / 1_000)
        times[case["name"]] = each
    json.dump(times, sys.stdout)


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(pathlib.Path(sys.argv[2]))
    else:
        measure(pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
