"""DynamoDB: a Query costs what it reads and not what its partition holds.

Problem. MiniStack's Query sorts the whole partition and compares each of its items with the key condition. Among 200,000
records of one institute, one page took 10 seconds, and 60 on a busy machine.

Mechanism. The first Query of a partition makes a sorted list of its keys, and every write keeps the list. Binary
searches find in it what the key condition selects. Then MiniStack's own Query runs, but sees a table that has only the
items of its page. So all checks, errors, filters and numbers of an answer are MiniStack's. It sees the whole table if a
condition or a key is not one that this module knows: for example a key that is no string.
"""

import bisect
import contextvars
import operator
import re
import threading

from .replacing import wrap

NAME, VALUE = r"(?:[#]\w+|[A-Za-z_]\w*)", r":\w+"
# One partition, and at most one condition on the sort key.
CONDITION = re.compile(rf"""
    \s* (?P<hash>{NAME}) \s*=\s* (?P<partition>{VALUE})
    (?: \s+AND\s+ (?:
        begins_with\s*\( \s*{NAME}\s* , \s*(?P<prefix>{VALUE})\s* \)
        | {NAME} \s+BETWEEN\s+ (?P<first>{VALUE}) \s+AND\s+ (?P<last>{VALUE})
        | {NAME} \s* (?P<operator>[<>]=?|=) \s* (?P<value>{VALUE})
    ))? \s*""", re.VERBOSE | re.ASCII)
# A place among MiniStack's index members that no index can have: a name of an index has no slash.
ORDERS = "sluice/orders"
# The table that the running Query sees.
_table_of_page = contextvars.ContextVar("sluice_table_of_page", default=None)
# Threads other than that of the requests write too: the states of Step Functions, the deletion of expired items.
_lock = threading.Lock()


class Unknown(Exception):
    """Something that is left to MiniStack."""


def text(attribute):
    """The string that an attribute is."""
    if not isinstance(attribute, dict) or list(attribute) != ["S"] or not isinstance(attribute["S"], str):
        raise Unknown
    return attribute["S"]


def item_at(items, place):
    """The item at (partition key, sort key), or None. Looking there must not add a partition to MiniStack's defaultdict."""
    return items.get(place[0], {}).get(place[1])


class Order:
    """The keys of a table or an index: for each partition that was queried, a sorted list.

    An entry is the value of the sort key, and for an index also the table's own keys, because they decide among equals.
    """

    def __init__(self, dynamodb, table, index_name):
        definition = dynamodb._index_def(table, index_name) if index_name else table
        hashes, ranges = dynamodb._index_key_lists(definition or {})
        if len(hashes) != 1 or len(ranges) != 1 or not table["sk_name"]:
            raise Unknown
        (self.hash,), (self.sort,) = hashes, ranges
        self.names = tuple(dict.fromkeys((self.sort, table["pk_name"], table["sk_name"])))
        if any(dynamodb._get_attr_type(table, name) != "S" for name in (self.hash, *self.names)):
            raise Unknown
        # The place in the table of an item, from its entry.
        self.place = operator.itemgetter(self.names.index(table["pk_name"]), self.names.index(table["sk_name"]))
        self.partitions = {}

    def entry(self, place, item):
        """The partition of an item, and its entry."""
        entry = tuple(text(item.get(name)) for name in self.names)
        if self.place(entry) != place:
            raise Unknown
        return text(item.get(self.hash)), entry

    def entries(self, items, partition, members):
        """The entries of a partition. `members` are MiniStack's, by partition of the index, or None for the table."""
        if partition not in self.partitions:
            if members is None:
                places = [(partition, key) for key in list(items.get(partition, ()))]
            else:
                places = list(members.get(partition, ()))
            if not places:
                return []
            self.partitions[partition] = sorted(self.entry(place, item_at(items, place))[1] for place in places)
        return self.partitions[partition]

    def change(self, place, item, add):
        """Add or remove an item. A partition that is not as it should be is forgotten, and the next Query reads it again."""
        if self.hash not in item or self.sort not in item:
            return
        try:
            partition, entry = self.entry(place, item)
        except Unknown:
            self.partitions.clear()
            return
        entries = self.partitions.get(partition)
        if entries is None:
            return
        position = bisect.bisect_left(entries, entry)
        is_there = entries[position:position + 1] == [entry]
        if add and not is_there:
            entries.insert(position, entry)
        elif not add and is_there and len(entries) > 1:
            del entries[position]
        elif not add:
            del self.partitions[partition]


def selected(entries, condition, values):
    """The positions, from start to stop, that a condition on the sort key selects."""
    sort_key = operator.itemgetter(0)

    def before(name):
        return bisect.bisect_left(entries, text(values.get(condition[name])), key=sort_key)

    def after(name):
        return bisect.bisect_right(entries, text(values.get(condition[name])), key=sort_key)

    if condition["prefix"]:
        prefix, start = text(values.get(condition["prefix"])), before("prefix")
        return start, bisect.bisect_left(entries, True, start, key=lambda entry: not entry[0].startswith(prefix))
    if condition["first"]:
        return before("first"), after("last")
    if condition["operator"]:
        sign = condition["operator"]
        start = 0 if "<" in sign else after("value") if sign == ">" else before("value")
        stop = len(entries) if ">" in sign else before("value") if sign == "<" else after("value")
        return start, stop
    return 0, len(entries)


def table_of_page(dynamodb, table, data):
    """A table like this one, with only those items that a Query reads for its page."""
    condition = CONDITION.fullmatch(data.get("KeyConditionExpression") or "")
    if condition is None:
        raise Unknown
    names, values = data.get("ExpressionAttributeNames") or {}, data["ExpressionAttributeValues"]
    index_name, members, items = data.get("IndexName"), dynamodb._index_members(table), table["items"]
    orders = members.setdefault(ORDERS, {})
    if index_name not in orders:
        orders[index_name] = Order(dynamodb, table, index_name)
    order = orders[index_name]
    # The other name is that of the sort key, or MiniStack refuses the request.
    if names.get(condition["hash"], condition["hash"]) != order.hash:
        raise Unknown
    partition = text(values.get(condition["partition"]))
    entries = order.entries(items, partition, members[index_name] if index_name else None)

    start, stop = selected(entries, condition, values)
    forward, cursor = data.get("ScanIndexForward", True), data.get("ExclusiveStartKey")
    if cursor:
        reached = tuple(text(cursor.get(name)) for name in order.names)
        start = max(start, bisect.bisect_right(entries, reached)) if forward else start
        stop = stop if forward else min(stop, bisect.bisect_left(entries, reached))
    read = {}

    def reading():
        for position in range(start, stop) if forward else range(stop - 1, start - 1, -1):
            place = order.place(entries[position])
            item = item_at(items, place)
            # Another thread may be in the middle of a write.
            if item is not None and order.entry(place, item) == (partition, entries[position]):
                read[place] = item
                yield item

    # This takes no more than the page, and the item that did not fit.
    dynamodb._paginate_evaluated_items(reading(), data.get("Limit"), table, index_name)
    if not read and entries:
        # MiniStack sees the errors of some conditions only if the partition has an item. This one is not in the answer.
        place = order.place(entries[0])
        read = {place: item_at(items, place) or {}}
    page = {key: value for key, value in table.items() if key != dynamodb._INDEX_MEMBERS}
    page["items"] = {}
    for (partition_key, sort_key), item in read.items():
        page["items"].setdefault(partition_key, {})[sort_key] = item
    return page


def sorted_partitions():
    """A Query reads the items of its page only.

    AWS, "Querying tables in DynamoDB": items with the same partition key are stored in sorted order by the sort key, and
    a Query reads those that its key condition matches, until its page is full.
    """
    from ministack.core.responses import AccountRegionScopedDict
    from ministack.services import dynamodb

    def make_index_item(original):
        def index_item(table, base_pk, base_sk, item, add):
            with _lock:
                original(table, base_pk, base_sk, item, add)
                for order in (table.get(dynamodb._INDEX_MEMBERS) or {}).get(ORDERS, {}).values():
                    order.change((base_pk, base_sk), item, add)
        return index_item

    def make_get(original):
        def get(self, key, default=None):
            page = _table_of_page.get()
            return page if page is not None and self is dynamodb._tables else original(self, key, default)
        return get

    def make_query(original):
        def query(data):
            page = None
            try:
                table = dynamodb._tables.get(dynamodb._normalize_table_name(data.get("TableName")))
                with _lock:
                    page = table_of_page(dynamodb, table, data)
            except (Unknown, AttributeError, KeyError, TypeError, ValueError, RuntimeError):
                # The last five: no such table or a malformed request, which the original refuses, or another thread's write.
                pass
            token = _table_of_page.set(page)
            try:
                return original(data)
            finally:
                _table_of_page.reset(token)
        return query

    wrap(dynamodb, "_index_item", make_index_item)
    wrap(AccountRegionScopedDict, "get", make_get)
    wrap(dynamodb, "_query", make_query)
