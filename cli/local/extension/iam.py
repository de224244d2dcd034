"""IAM: policy variables, and the ARN of a principal."""

import re

from .replacing import wrap

# Noncharacters that stand for a literal * and ? in an expanded pattern, since MiniStack's patterns have no escape.
LITERALS = {"*": "\ufdd0", "?": "\ufdd1"}
VARIABLE = re.compile(r"\$\{([^}]*)\}")
VARIABLE_NAME = re.compile(r"\s*([^\s,']+)\s*(?:,\s*'(.*)'\s*)?")
WILDCARD_OPERATORS = ("stringlike", "stringnotlike", "arnlike", "arnnotlike", "arnequals", "arnnotequals")


def expand(text, lookup, wildcards):
    """The text with its policy variables replaced once, or None if one of them has no value.

    The value of a variable is taken literally: it is not expanded again. With wildcards (where * and ? in the text
    are patterns), its * and ? match only themselves.
    """
    missing = False

    def replacement(match):
        nonlocal missing
        inner = match.group(1)
        if inner in ("*", "?", "$"):
            value = inner
        else:
            named = VARIABLE_NAME.fullmatch(inner)
            value = lookup(named.group(1)) if named else None
            # A key with several values cannot be a variable, and an empty value is none.
            if not isinstance(value, str) or not value:
                value = named.group(2) if named else None
        if value is None or any(mark in value for mark in LITERALS.values()):
            missing = True
            return ""
        if wildcards:
            for character, mark in LITERALS.items():
                value = value.replace(character, mark)
        return value

    expanded = VARIABLE.sub(replacement, text)
    return None if missing else expanded


def policy_variables():
    """${key} and ${key, 'default'} work in Resource, NotResource and Condition values.

    AWS, "Policy variables with no value": a variable whose key is absent or empty is null. In Resource and
    NotResource the pattern that contains it matches no resource. In a condition, StringEquals and StringLike do not
    match it, while the negated operators do, because nothing equals null; so a Deny with StringNotEquals denies.
    Dropping the value gives both results, since MiniStack combines values by OR for the positive operators and by NOR
    for the negated ones. ${*}, ${?} and ${$} stand for these characters themselves.
    """
    from ministack.core import iam_evaluator as evaluator

    def make_compile(original):
        def compile_pattern(pattern, ignore_case):
            key = (pattern.lower() if ignore_case else pattern, ignore_case)
            compiled = evaluator._FNMATCH_CACHE.get(key)
            if compiled is None:
                parts = {"*": ".*", "?": "."} | {mark: re.escape(char) for char, mark in LITERALS.items()}
                regex = "".join(parts.get(character) or re.escape(character) for character in key[0])
                # \Z and DOTALL: a line break in a resource name is a character like any other.
                compiled = re.compile(rf"{regex}\Z", re.DOTALL | (re.IGNORECASE if ignore_case else 0))
                if len(evaluator._FNMATCH_CACHE) < 4096:
                    evaluator._FNMATCH_CACHE[key] = compiled
            return compiled
        return compile_pattern

    def make_conditions_met(original):
        def conditions_met(conditions, ctx):
            expanded = {}
            for operator, keys in (conditions or {}).items():
                if not isinstance(keys, dict):
                    continue
                wildcards = operator.lower().split(":")[-1].removesuffix("ifexists") in WILDCARD_OPERATORS
                expanded[operator] = {}
                for key, values in keys.items():
                    values = values if isinstance(values, list) else [values]
                    values = [expand(str(value), lambda name: evaluator._resolve_condition_key(name, ctx), wildcards)
                              for value in values]
                    expanded[operator][key] = [value for value in values if value is not None]
            return original(expanded, ctx)
        return conditions_met

    def make_first_match(original):
        def matches_one(ctx, patterns):
            for pattern in patterns:
                expanded = expand(pattern, lambda name: evaluator._resolve_condition_key(name, ctx), True)
                if expanded is not None and evaluator.fnmatch_iam_cs(ctx.resource_arn, expanded):
                    return True
            return False

        def first_match(ctx, statements, effect):
            for statement in statements:
                if statement.effect != effect:
                    continue
                if not evaluator._action_matches(ctx.action, statement.actions, statement.not_actions):
                    continue
                if statement.resources and not matches_one(ctx, statement.resources):
                    continue
                if not statement.resources and matches_one(ctx, statement.not_resources):
                    continue
                if evaluator._conditions_met(statement.conditions, ctx):
                    return statement
            return None
        return first_match

    wrap(evaluator, "_fnmatch_compile", make_compile)
    wrap(evaluator, "_conditions_met", make_conditions_met)
    wrap(evaluator, "_first_match", make_first_match)


def principal_arn():
    """aws:PrincipalArn of a role session is the role.

    AWS, "aws:PrincipalArn": for a role the key holds the ARN of the role, not of the session that assumed it.
    """
    from ministack.core import iam_evaluator as evaluator
    from ministack.services import iam

    def make_resolve(original):
        def resolve_condition_key(key, ctx):
            if key.lower() == "aws:principalarn" and ":assumed-role/" in ctx.principal_arn:
                role = iam._roles.get_scoped(
                    ctx.principal_account, None, evaluator._role_name_from_assumed_arn(ctx.principal_arn))
                if role:
                    return role["Arn"]
            return original(key, ctx)
        return resolve_condition_key

    wrap(evaluator, "_resolve_condition_key", make_resolve)
