"""Limits of AWS that MiniStack lacks: state data over 256 KiB, a Condition that is no boolean, and paths of an update
that overlap or lead nowhere."""

import json
import re

from .replacing import wrap

# AWS, "Step Functions service quotas": input or output of a task, a state or an execution, as a UTF-8 text.
MAX_STATE_BYTES = 256 * 1024
TOO_LARGE = "States.DataLimitExceeded"
SECTION = re.compile(r"\b(SET|REMOVE|ADD|DELETE)\b", re.IGNORECASE)


def size(value):
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def state_data():
    """The data of a state has at most 256 KiB.

    AWS, "Handling errors": States.DataLimitExceeded is terminal; States.ALL does not match it. No execution starts
    with more.
    """
    from ministack.core.responses import error_response_json
    from ministack.services import stepfunctions

    def check(state_def, what, value):
        if size(value) > MAX_STATE_BYTES:
            raise stepfunctions._ExecutionError(
                TOO_LARGE, f"The {what} of the {state_def.get('Type', 'state')} state has more than {MAX_STATE_BYTES} bytes")
        return value

    def make_arguments(original):
        def apply_arguments(state_def, raw_input, ctx=None):
            return check(state_def, "input", original(state_def, raw_input, ctx))
        return apply_arguments

    def make_output(original):
        def apply_output(state_def, raw_input, ctx=None, result=None, error_output=None, default=None):
            check(state_def, "result", result)
            return check(state_def, "output", original(state_def, raw_input, ctx, result, error_output, default))
        return apply_output

    def names(rule):
        return TOO_LARGE in rule.get("ErrorEquals", [])

    def make_retrier(original):
        def find_matching_retrier(retriers, error, retry_counts):
            if error == TOO_LARGE and not any(map(names, retriers)):
                return None, -1
            return original(retriers, error, retry_counts)
        return find_matching_retrier

    def make_catcher(original):
        def find_matching_catcher(catchers, error):
            if error == TOO_LARGE:
                return next(filter(names, catchers), None)
            return original(catchers, error)
        return find_matching_catcher

    def make_start(original):
        def start(data):
            if len((data.get("input") or "").encode()) > MAX_STATE_BYTES:
                return error_response_json("InvalidExecutionInput", f"The input has more than {MAX_STATE_BYTES} bytes", 400)
            return original(data)
        return start

    wrap(stepfunctions, "_apply_jsonata_arguments", make_arguments)
    wrap(stepfunctions, "_apply_jsonata_output", make_output)
    wrap(stepfunctions, "_find_matching_retrier", make_retrier)
    wrap(stepfunctions, "_find_matching_catcher", make_catcher)
    wrap(stepfunctions, "_start_execution", make_start)
    wrap(stepfunctions, "_start_sync_execution", make_start)


def boolean_conditions():
    """A Condition of a Choice state is an expression, and its value is true or false.

    AWS, "Choice workflow state": another text is refused with the definition, another value fails the state with
    States.QueryEvaluationError.
    """
    from ministack.services import stepfunctions

    def is_expression(condition):
        return isinstance(condition, bool) or (
            isinstance(condition, str) and condition.startswith("{%") and condition.endswith("%}"))

    def conditions(node, path):
        if isinstance(node, dict):
            if node.get("Type") == "Choice":
                for number, rule in enumerate(node.get("Choices") or []):
                    if isinstance(rule, dict) and "Condition" in rule:
                        yield f"{path}/Choices[{number}]/Condition", rule["Condition"]
            for name, value in node.items():
                yield from conditions(value, f"{path}/{name}")

    def make_validate(original):
        def validate(definition_str):
            refusal = original(definition_str)
            if refusal is None:
                try:
                    definition = json.loads(definition_str)
                except (TypeError, ValueError):
                    return None
                for path, condition in conditions(definition, ""):
                    if not is_expression(condition):
                        return f"SCHEMA_VALIDATION_FAILED: a Condition is a JSONata expression\n  at {path}"
            return refusal
        return validate

    def make_rule(original):
        def evaluate(rule, raw_input, ctx):
            condition = rule.get("Condition")
            if isinstance(condition, str):
                value = stepfunctions._evaluate_jsonata(condition[2:-2].strip(), raw_input, ctx)
                if not isinstance(value, bool):
                    raise stepfunctions._ExecutionError(
                        "States.QueryEvaluationError",
                        "The JSONata expression of a Condition returned an unexpected result type: expected 'boolean', "
                        f"but was '{stepfunctions._json_type(value)}'")
                return value
            return original(rule, raw_input, ctx)
        return evaluate

    wrap(stepfunctions, "_validate_definition_jsonata", make_validate)
    wrap(stepfunctions, "_evaluate_jsonata_choice_rule", make_rule)


def parts(text):
    """Splits a list at its commas, except within parentheses."""
    depth, start = 0, 0
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            yield text[start:position]
            start = position + 1
    yield text[start:]


def document_paths(expression, names):
    """The paths that an UpdateExpression writes, each as a list of steps."""
    found, words = [], SECTION.split(expression or "")
    for section, clauses in zip(words[1::2], words[2::2]):
        for clause in parts(clauses):
            path = clause.split("=")[0] if section.upper() == "SET" else (clause.split() or [""])[0]
            steps = re.findall(r"[#\w:-]+|\[\d+\]", path)
            if steps:
                found.append([names.get(step, step) for step in steps])
    return found


def overlapping(expression, names):
    """Two paths of which one contains the other, or None."""
    found = document_paths(expression, names)
    for number, one in enumerate(found):
        for two in found[number + 1:]:
            shorter = min(len(one), len(two))
            if one[:shorter] == two[:shorter]:
                return one, two
    return None


def update_paths():
    """The paths of an UpdateExpression do not overlap, and what REMOVE names a part of exists.

    AWS, "UpdateItem": an expression may name an attribute only once, and not beside a part of it
    (ValidationException). MiniStack refuses a part of nothing in SET only.
    """
    from ministack.core.responses import error_response_json
    from ministack.services import dynamodb

    def refusal(update):
        both = overlapping(update.get("UpdateExpression"), update.get("ExpressionAttributeNames") or {})
        if both is None:
            return None
        one, two = (f"[{', '.join(path)}]" for path in both)
        return error_response_json(
            "ValidationException",
            "Invalid UpdateExpression: Two document paths overlap with each other; must remove or rewrite one of these "
            f"paths; path one: {one}, path two: {two}", 400)

    def make_update(original):
        def update_item(data):
            return refusal(data) or original(data)
        return update_item

    def make_transaction(original):
        def transact_write_items(data):
            updates = [item.get("Update") for item in data.get("TransactItems") or [] if isinstance(item, dict)]
            refusals = (refusal(update) for update in updates if isinstance(update, dict))
            return next(filter(None, refusals), None) or original(data)
        return transact_write_items

    def make_remove(original):
        def apply_remove(item, tokens, attr_names, updated_attrs):
            for path_tokens in dynamodb._split_by_comma(tokens):
                path = dynamodb._parse_path_from_tokens(path_tokens, attr_names)
                if len(path) > 1 and dynamodb._get_at_path(item, path[:-1]) is None:
                    raise ValueError("The document path provided in the update expression is invalid for update")
            return original(item, tokens, attr_names, updated_attrs)
        return apply_remove

    wrap(dynamodb, "_update_item", make_update)
    wrap(dynamodb, "_apply_remove", make_remove)
    wrap(dynamodb, "_transact_write_items", make_transaction)
