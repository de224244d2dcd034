"""SQS: the actions of batches, and fair delivery."""

import itertools
import time

from .replacing import wrap


def queue_batch_actions():
    """A right to send, delete or change a message includes the batch operation for ten: batch operations have no
    action of their own (Service Authorization Reference, "Actions, resources, and condition keys for Amazon SQS")."""
    from ministack.core import iam_actions

    def make(original):
        def action_from_target(headers):
            action = original(headers)
            is_batch = headers.get("x-amz-target", "").startswith("AmazonSQS.") and (action or "").endswith("Batch")
            return action.removesuffix("Batch") if is_batch else action
        return action_from_target

    wrap(iam_actions, "_action_from_target", make)


# A group with a larger share of the queue's consumers is a noisy neighbor.
NOISY_SHARE = 0.1
# With fewer messages in flight, a group's share of them does not matter.
NOISY_IN_FLIGHT = 30
# The interval in seconds in which remembered processing time halves.
HALF_LIFE_SECONDS = 30


def fair_queues():
    """A standard queue delivers messages of quiet groups first (SQS Developer Guide, "How Amazon SQS fair queues
    work").

    AWS: a group is a noisy neighbor if it has more than a tenth of the messages in flight and at least 30 of its own
    there, or more than a tenth of the recent processing time. Among noisy groups, the one with the fewest messages in
    flight comes first. A message without a group is a group of its own, and a group whose backlog is gone is quiet.
    AWS does not say how long "recent" is; here the time halves every 30 seconds.
    """
    from ministack.core.responses import new_uuid
    from ministack.services import sqs

    def in_flight(queue, now):
        counts = {}
        for message in queue["messages"]:
            group = message.get("group_id")
            if group and message["visible_at"] > now and message["receive_count"] > 0:
                counts[group] = counts.get(group, 0) + 1
        return counts

    def processing_time(queue, counts, now):
        """Seconds by group, including those since the last delivery. Forgets a group without a message in the queue."""
        last, seconds = queue.get("fair_account", (now, {}))
        passed = max(0.0, now - last)
        kept = 0.5 ** (passed / HALF_LIFE_SECONDS)
        groups = {message.get("group_id") for message in queue["messages"]}
        seconds = {group: seconds.get(group, 0.0) * kept + counts.get(group, 0) * passed for group in groups if group}
        queue["fair_account"] = (now, seconds)
        return seconds

    def in_order(visible, counts, seconds):
        everything, all_seconds = sum(counts.values()), sum(seconds.values())

        def is_noisy(group):
            count = counts.get(group, 0)
            return (count >= NOISY_IN_FLIGHT and count > NOISY_SHARE * everything
                    or seconds.get(group, 0.0) > NOISY_SHARE * all_seconds)

        noisy, waiting = {}, []
        for message in visible:
            group = message["group_id"]
            if group and (group in noisy or is_noisy(group)):
                noisy.setdefault(group, []).append(message)
            else:
                waiting.append(message)
        yield from waiting
        delivered = dict(counts)
        while noisy:
            group = min(noisy, key=lambda it: delivered.get(it, 0))
            yield noisy[group].pop(0)
            delivered[group] = delivered.get(group, 0) + 1
            if not noisy[group]:
                del noisy[group]

    def make(original):
        def collect(queue, max_number, visibility_timeout):
            if queue["is_fifo"]:
                return original(queue, max_number, visibility_timeout)
            now = time.time()
            for message in queue["messages"]:
                sqs._ensure_msg_fields(message)
            counts = in_flight(queue, now)
            seconds = processing_time(queue, counts, now)
            visible = [message for message in queue["messages"] if message["visible_at"] <= now]
            taken = list(itertools.islice(in_order(visible, counts, seconds), max_number))
            for message in taken:
                message["receipt_handle"] = new_uuid()
                message["visible_at"] = now + visibility_timeout
                message["receive_count"] += 1
                if message.get("first_receive_at") is None:
                    message["first_receive_at"] = now
            return taken
        return collect

    wrap(sqs, "_collect_msgs", make)
