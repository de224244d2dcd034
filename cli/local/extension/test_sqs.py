"""The actions of batches, and fair delivery."""

from .test_support import allow, allowed


def test_batch_actions(world):
    url = world.client("sqs").create_queue(QueueName="batches")["QueueUrl"]
    arn = world.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    send = {"QueueUrl": url, "Entries": [{"Id": "1", "MessageBody": "m"}]}
    sender = world.client("sqs", world.session("alice", allow("sqs:SendMessage", arn)))
    deleter = world.client("sqs", world.session("alice", allow("sqs:DeleteMessage", arn)))
    assert allowed(sender.send_message_batch, **send)
    assert not allowed(deleter.send_message_batch, **send)
    delete = {"QueueUrl": url, "Entries": [{"Id": "1", "ReceiptHandle": "r"}]}
    assert not allowed(sender.delete_message_batch, **delete)


def fair_queue(world, name):
    """A queue, with functions to send to it and receive from it. Received messages stay in flight."""
    sqs = world.client("sqs")
    url = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "600"})["QueueUrl"]

    def send(group, bodies):
        for body in bodies:
            sqs.send_message(QueueUrl=url, MessageBody=body, **({"MessageGroupId": group} if group else {}))

    def receive(count=10):
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=count).get("Messages", [])
        return [message["Body"] for message in found]

    return send, receive


def test_a_group_with_most_messages_in_flight_waits_for_the_others(world):
    send, receive = fair_queue(world, "fair-in-flight")
    backlog = [f"a{number}" for number in range(50)]
    send("a", backlog)
    assert [receive(), receive(), receive()] == [backlog[:10], backlog[10:20], backlog[20:30]], "alone it has everything"
    send("b", ["b0", "b1"])
    assert receive(3) == ["b0", "b1", "a30"]


def test_a_group_that_takes_the_processing_time_waits_for_the_others(world):
    send, receive = fair_queue(world, "fair-time")
    send("a", ["a0", "a1", "a2"])
    assert receive(1) == ["a0"]
    send("b", ["b0"])
    assert receive(2) == ["b0", "a1"]


def test_of_noisy_groups_that_with_the_fewest_in_flight_comes_first(world):
    send, receive = fair_queue(world, "fair-noisy")
    send("a", [f"a{number}" for number in range(40)])
    for _ in range(3):
        receive()
    bodies = [f"b{number}" for number in range(40)]
    send("b", bodies)
    assert [receive(), receive(), receive()] == [bodies[:10], bodies[10:20], bodies[20:30]]
    assert receive(4) == ["a30", "b30", "a31", "b31"], "now both have as many in flight"


def test_messages_without_a_group_come_in_their_order(world):
    send, receive = fair_queue(world, "fair-none")
    bodies = [f"m{number}" for number in range(45)]
    send(None, bodies)
    assert [body for _ in range(5) for body in receive()] == bodies
