"""A Query of a sorted partition: the same answers as MiniStack's own, from fewer items."""

import copy
import json
import random
import threading

import pytest

from . import dynamodb_queries

# Values that begin with each other, that equal a whole other value, and that sort differently as bytes of UTF-16.
TEXTS = ["a", "aa", "ab", "ab\t1", "ab\t2", "abc", "b", "b ", "é", "\uffee", "\U0001f600"]
NUMBERS = ["-3", "0", "1.5", "2", "3", "9", "10", "100"]
INDEXES = {"by-label": ("sender", "label"), "by-rare": ("sender", "rare"), "by-amount": ("sender", "amount"),
           "by-sender": ("sender", None), "by-institute": ("institute", "label"),
           "by-id": ("institute", "id"), "local": ("institute", "rare")}
TYPES = {"institute": "S", "id": "S", "n": "N", "sender": "S", "label": "S", "rare": "S", "amount": "N"}


def schema(hash_key, sort_key):
    return [{"AttributeName": name, "KeyType": kind} for name, kind in ((hash_key, "HASH"), (sort_key, "RANGE")) if name]


def index(name):
    projection = {"by-rare": {"ProjectionType": "KEYS_ONLY"},
                  "by-label": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["amount"]}}
    return {"IndexName": name, "KeySchema": schema(*INDEXES[name]), "Projection": projection.get(name, {"ProjectionType": "ALL"})}


def definitions(*schemas):
    names = dict.fromkeys(key["AttributeName"] for keys in schemas for key in keys)
    return [{"AttributeName": name, "AttributeType": TYPES[name]} for name in names]


class Service:
    """MiniStack's DynamoDB with the rule, and its own Query beside it."""

    def __init__(self, module, original):
        self.module, self.original = module, original
        # The number of queries that saw only their page.
        self.narrowed = 0

    def call(self, action, **data):
        status, _, body = getattr(self.module, f"_{action}")(data)
        assert status == 200, body
        return json.loads(body)

    def make_table(self, name, sort_key):
        indexes = [index(name) for name in INDEXES]
        every = [schema("institute", sort_key), *(each["KeySchema"] for each in indexes)]
        self.call("create_table", TableName=name, BillingMode="PAY_PER_REQUEST", KeySchema=schema("institute", sort_key),
                  AttributeDefinitions=definitions(*every), GlobalSecondaryIndexes=indexes[:-1],
                  LocalSecondaryIndexes=indexes[-1:])

    def same(self, data):
        """The answer, which is that of the original."""
        answers = [query(copy.deepcopy(data)) for query in (self.original, self.module._query)]
        assert answers[0] == answers[1], data
        return answers[0][0], json.loads(answers[0][2])

    def lists_are_right(self):
        """Whether each kept list is what a new one would be."""
        table = self.module._tables.get("catalog")
        members = self.module._index_members(table)
        for index_name, order in members.get(dynamodb_queries.ORDERS, {}).items():
            new = dynamodb_queries.Order(self.module, table, index_name)
            for partition, entries in order.partitions.items():
                if not entries or entries != new.entries(table["items"], partition, members[index_name] if index_name else None):
                    return False
        return True

    def reload(self):
        state = self.module.get_state()
        self.module.reset()
        tables = {name: json.loads(json.dumps(table)) for name, table in state.pop("tables").items()}
        self.module.load_persisted_state({"tables": tables})


@pytest.fixture
def service(monkeypatch):
    from ministack.core.responses import AccountRegionScopedDict
    from ministack.services import dynamodb

    original = dynamodb._query
    for owner, name in ((dynamodb, "_query"), (dynamodb, "_index_item"), (AccountRegionScopedDict, "get")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    dynamodb_queries.sorted_partitions()
    dynamodb.reset()
    service = Service(dynamodb, original)

    def table_of_page(*arguments, make=dynamodb_queries.table_of_page):
        table = make(*arguments)
        service.narrowed += 1
        # MiniStack would go through all of them.
        assert dynamodb._INDEX_MEMBERS not in table
        return table

    monkeypatch.setattr(dynamodb_queries, "table_of_page", table_of_page)
    yield service
    dynamodb.reset()


class Requests:
    """Requests made up at random. The sort key of the table is `id`, or the number `n`."""

    def __init__(self, seed, table, sort_key):
        self.random, self.table, self.sort_key = random.Random(seed), table, sort_key

    def value(self, name):
        if TYPES[name] == "N":
            return {"N": self.random.choice(NUMBERS)}
        return {"S": self.random.choice({"institute": "vw", "sender": "xy", "id": TEXTS}.get(name, TEXTS[:5]))}

    def key(self):
        return {name: self.value(name) for name in ("institute", self.sort_key)}

    def item(self):
        chances = {"sender": 0.9, "label": 0.9, "rare": 0.4, "amount": 0.7}
        if self.sort_key != "id":
            chances["id"] = 0.7
        more = {name: self.value(name) for name, chance in chances.items() if self.random.random() < chance}
        return {**self.key(), **more, "note": {"S": self.random.choice(TEXTS)}}

    def write(self, service):
        """One write of any kind."""
        to = {"TableName": self.table}
        kind = self.random.choice(["put", "put", "update", "update", "remove", "delete", "batch", "transaction", "expiry"])
        if kind == "put":
            service.call("put_item", **to, Item=self.item())
        elif kind == "update":
            name = self.random.choice(["sender", "label", "rare", "amount"])
            service.call("update_item", **to, Key=self.key(), UpdateExpression=f"SET {name} = :v",
                         ExpressionAttributeValues={":v": self.value(name)})
        elif kind == "remove":
            service.call("update_item", **to, Key=self.key(), UpdateExpression="REMOVE rare, label")
        elif kind == "delete":
            service.call("delete_item", **to, Key=self.key())
        elif kind == "batch":
            put, other = self.item(), self.key()
            requests = [{"PutRequest": {"Item": put}}]
            if any(put[name] != other[name] for name in other):
                requests.append({"DeleteRequest": {"Key": other}})
            service.call("batch_write_item", RequestItems={self.table: requests})
        elif kind == "transaction":
            service.call("transact_write_items", TransactItems=[{"Put": {**to, "Item": self.item()}}])
        else:
            table, key = service.module._tables.get(self.table), self.key()
            service.module._remove_item(table, *(service.module._extract_key_val(key[name]) for name in key))

    def query(self):
        choose, chance = self.random.choice, self.random.random
        index_name = choose([None, None, *INDEXES])
        hash_key, sort_key = INDEXES.get(index_name, ("institute", self.sort_key))
        names, values, data = {}, {":p": self.value(hash_key)}, {"TableName": self.table}

        def named(name):
            if chance() < 0.5:
                return name
            names[f"#{name}"] = name
            return f"#{name}"

        parts = [f"{named(hash_key)} = :p"]
        kind = choose(["none", "begins", "between", "=", "<", "<=", ">", ">="])
        if sort_key and kind != "none":
            values[":a"], values[":b"] = sorted((self.value(sort_key), self.value(sort_key)), key=self.order)
            sort = named(sort_key)
            functions = {"begins": f"begins_with({sort}, :a)", "between": f"{sort} BETWEEN :a AND :b"}
            parts.append(functions.get(kind, f"{sort}{kind}:a"))
            if kind != "between":
                del values[":b"]
        if chance() < 0.1:
            parts.reverse()
        data["KeyConditionExpression"] = choose([" AND ", " AND ", "  AND ", " and "]).join(parts)
        if chance() < 0.3:
            data["FilterExpression"], values[":f"] = "begins_with(note, :f)", self.value("label")
        data |= {"IndexName": index_name} if index_name else {}
        data |= {"Limit": self.random.randint(1, 6)} if chance() < 0.6 else {}
        data |= {"ScanIndexForward": choose([True, False])} if chance() < 0.8 else {}
        data |= {"Select": "COUNT"} if chance() < 0.1 else {"ProjectionExpression": "note, rare"} if chance() < 0.2 else {}
        data |= {"ReturnConsumedCapacity": "INDEXES"} if chance() < 0.2 else {}
        data |= {"ExclusiveStartKey": self.item()} if chance() < 0.2 else {}
        data["ExpressionAttributeValues"] = values
        return self.spoiled({**data, **({"ExpressionAttributeNames": names} if names else {})})

    def spoiled(self, data):
        """Now and then a request that is malformed, or has another form."""
        values = data["ExpressionAttributeValues"]
        hash_key = INDEXES.get(data.get("IndexName"), ("institute",))[0]
        changes = [
            {"KeyConditionExpression": data["KeyConditionExpression"] + " AND name = :p"},
            {"KeyConditionExpression": f"{hash_key} = :p AND begins_with(name, :p)"},
            {"KeyConditionExpression": f"({data['KeyConditionExpression']})"},
            {"KeyConditionExpression": None, "KeyConditions": {
                hash_key: {"ComparisonOperator": "EQ", "AttributeValueList": [values[":p"]]}}, "ExpressionAttributeValues": None},
            {"FilterExpression": "begins_with(note, :p) AND"}, {"FilterExpression": "size(note) = name"},
            {"ExpressionAttributeValues": {**values, ":p": {"N": "1"}}},
            {"ExpressionAttributeValues": {**values, ":p": {"S": "none"}}},
            {"ExpressionAttributeValues": {":p": values[":p"]}}, {"ExpressionAttributeValues": {**values, ":unused": {"S": "a"}}},
            {"Limit": 0}, {"IndexName": "none"}, {"TableName": "none"}, {"ExclusiveStartKey": {"institute": values[":p"]}},
        ]
        changed = {**data, **(self.random.choice(changes) if self.random.random() < 0.15 else {})}
        return {name: value for name, value in changed.items() if value is not None}

    @staticmethod
    def order(value):
        return float(value["N"]) if "N" in value else value["S"]


@pytest.mark.parametrize("sort_key", ["id", "n"])
def test_a_query_gives_the_answer_of_the_original_after_every_kind_of_write(service, sort_key):
    service.make_table("catalog", sort_key)
    requests, answered, pages = Requests(7, "catalog", sort_key), 0, 0
    for step in range(700):
        requests.write(service)
        data = requests.query()
        # All pages of a Query, but no more than twenty.
        for _ in range(20):
            status, answer = service.same(data)
            answered += bool(answer.get("Count"))
            if "LastEvaluatedKey" not in answer:
                break
            pages += 1
            data["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        assert service.lists_are_right()
        if step % 100 == 50:
            service.reload()
        if step % 100 == 90:
            # Another index with the same name.
            service.call("update_table", TableName="catalog", GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "by-label"}}])
            created = {**index("by-label"), "KeySchema": schema(*INDEXES["by-label" if step % 200 == 190 else "by-rare"])}
            service.call("update_table", TableName="catalog", AttributeDefinitions=definitions(created["KeySchema"]),
                         GlobalSecondaryIndexUpdates=[{"Create": created}])
    assert answered > 200 and pages > 100
    # A key that is a number is left to the original, and so are the queries of every index of such a table.
    assert service.narrowed > 200 if sort_key == "id" else service.narrowed == 0


def fill(service, count, item=dict):
    table = service.module._tables.get("catalog")
    for n in range(count):
        keys = {"institute": "west", "id": f"{n * 7919 % count:05}", "sender": "x", "label": f"C{n}\t", "rare": f"{n:05}"}
        service.module._set_item(table, keys["institute"], keys["id"], item({name: {"S": value} for name, value in keys.items()}))


def ask(condition, index_name=None, **more):
    """A Query of the filled table. The values of its condition are between quotes."""
    texts = condition.split("'")
    values = {f":v{n}": {"S": text} for n, text in enumerate(texts[1::2])}
    expression = "".join(f":v{n // 2}" if n % 2 else text for n, text in enumerate(texts))
    return {"TableName": "catalog", "KeyConditionExpression": expression, "ExpressionAttributeValues": values,
            **({"IndexName": index_name} if index_name else {}), **more}


def test_a_query_looks_at_the_items_of_its_page_however_many_the_partition_has(service):
    looked = set()

    class Item(dict):
        def __getitem__(self, name):
            looked.add(id(self))
            return super().__getitem__(name)

        def __contains__(self, name):
            looked.add(id(self))
            return super().__contains__(name)

        def get(self, name, default=None):
            looked.add(id(self))
            return super().get(name, default)

    queries = [  # and how many items they may look at
        (ask("sender = 'x' AND begins_with(label, 'C7\t')", "by-label"), 1),
        (ask("sender = 'x' AND label BETWEEN 'C7\t' AND 'C7\t~'", "by-label"), 1),
        (ask("#i = 'west' AND begins_with(#m, '0005')", ExpressionAttributeNames={"#i": "institute", "#m": "id"}), 10),
        (ask("sender = 'x'", "by-rare", Limit=5, ScanIndexForward=False), 5),
        (ask("sender = 'x' AND rare < '00050'", "by-rare", Limit=5, ScanIndexForward=False), 5),
        (ask("sender = 'x' AND label = 'none'", "by-label"), 1),
    ]
    for count in (100, 2000):
        service.module.reset()
        service.make_table("catalog", "id")
        fill(service, count, Item)
        for data, _ in queries:
            service.same(data)
        # Writes do not make the next Query read everything again.
        keys = {name: {"S": value} for name, value in {"institute": "west", "id": "new", "sender": "x"}.items()}
        service.call("put_item", TableName="catalog", Item={**keys, "label": {"S": "D"}, "rare": {"S": "0"}})
        service.call("put_item", TableName="catalog", Item={**keys, "label": {"S": "E"}})
        service.call("delete_item", TableName="catalog", Key={name: keys[name] for name in ("institute", "id")})
        for data, most in queries:
            looked.clear()
            service.module._query(copy.deepcopy(data))
            assert 1 <= len(looked) <= most, data
            looked.clear()
            service.original(copy.deepcopy(data))
            assert len(looked) == count


def test_a_page_of_a_megabyte_ends_where_that_of_the_original_does(service):
    service.make_table("catalog", "id")
    for n in range(40):
        note = "n" * (100_000 if n % 3 else 65_536 - 100)
        texts = {"institute": "west", "id": f"{n:02}", "sender": "x", "label": "same", "note": note}
        service.call("put_item", TableName="catalog", Item={name: {"S": value} for name, value in texts.items()})
    for data in (ask("institute = 'west'"), ask("institute = 'west' AND id > '05'", ScanIndexForward=False),
                 ask("sender = 'x'", "by-sender"), ask("sender = 'x' AND label >= 'a'", "by-label"),
                 ask("institute = 'west' AND label = 'same'", "by-institute")):
        counts = []
        while True:
            _, answer = service.same(data)
            counts.append(answer["Count"])
            if "LastEvaluatedKey" not in answer:
                break
            data["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        assert len(counts) == 1 if data.get("IndexName") == "by-label" else len(counts) > 2, counts


def test_queries_are_right_during_and_after_the_writes_of_other_threads(service):
    service.make_table("catalog", "id")
    fill(service, 300)
    data, table = ask("sender = 'x' AND begins_with(label, 'C')", "by-label"), service.module._tables.get("catalog")
    service.same(data)

    def write(first):
        for n in range(first, first + 600):
            place = "west", f"{n % 300:05}"
            item = {name: {"S": value} for name, value in zip(("institute", "id", "sender", "label"), (*place, "x", f"C{n}"))}
            service.module._set_item(table, *place, item)
            if n % 5 == 0:
                service.module._remove_item(table, *place)

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        status, _, body = service.module._query(copy.deepcopy(data))
        texts = [item["label"]["S"] for item in json.loads(body)["Items"]]
        assert status == 200 and texts == sorted(texts)
    assert service.same(data)[1]["Count"] > 100
    assert service.same(ask("institute = 'west'"))[1]["Count"] > 100


def test_what_writes_do_not_make_is_left_to_the_original(service):
    service.make_table("catalog", "id")
    fill(service, 30)
    table, narrowed = service.module._tables.get("catalog"), []
    queries = [ask("institute = 'west'", Limit=20), ask("sender = 'x' AND label < 'C2'", "by-label", Limit=5),
               ask("sender = 'x'", "by-rare")]

    def same():
        before = service.narrowed
        for data in queries:
            service.same(data)
        narrowed.append(service.narrowed - before)

    same()
    # Writes of another thread that the first Query saw half, and then twice.
    for key, label in (("00003", "C0"), ("00020", "D")):
        item = table["items"]["west"][key] = {**table["items"]["west"][key], "label": {"S": label}}
        service.module._index_item(table, "west", key, item, add=True)
        service.module._index_item(table, "west", key, item, add=True)
    same()
    # An index of something else than strings.
    service.module._set_item(table, "west", "00004", {**table["items"]["west"]["00004"], "label": {"N": "7"}})
    same()
    # An item that is not at the place of its keys.
    service.module._set_item(table, "west", "elsewhere", dict(table["items"]["west"]["00005"]))
    same()
    service.module._remove_item(table, "west", "elsewhere")
    service.module._remove_item(table, "west", "00004")
    same()
    assert narrowed == [3, 3, 2, 0, 3]
