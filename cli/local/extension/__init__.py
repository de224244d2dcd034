"""The local AWS: MiniStack, with the rules of AWS that it lacks.

Problem. MiniStack verifies signatures and evaluates IAM policies. But it does not give the credentials of an identity
pool their principal tags, does not substitute policy variables, does not know several condition keys of S3 and
DynamoDB, and lets users write attributes that their app client may not write. It gives all users of an identity pool
the same role, and believes any token of an OpenID Connect provider. The permissions of this project rest on exactly
these rules: without them a local run would refuse what AWS allows, and allow what AWS refuses. MiniStack also lacks
two parts of sign-up and sign-in: the post-confirmation trigger, and the sessions that tie a challenge to its user.
And it serves anybody who reaches its port as the account's root, web pages included.

Mechanism. Each function in RULES (`__main__.py`) replaces one or two functions of MiniStack in memory. Then MiniStack
starts as `python -m ministack` would. Nothing on disk changes. A replacement wraps the original where it can.

A module holds the rules of one service. Its tests are next to it, with a request that each rule must allow and one
that it must refuse: `s3.py` and `test_s3.py`.

The replacements reach into private functions of MiniStack, so they work with one version only. The extension does not
start with another version, or if a function is not where a rule expects it: no rule is ever missing unnoticed.
"""
