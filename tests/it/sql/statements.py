"""SQL that no engine runs here."""

import sqlglot


def parse(statements):
    """Fails at a statement that its engine's dialect does not have: {engine: [statement, ...]}."""
    for engine in statements:
        for statement in statements[engine]:
            for parsed in sqlglot.parse(statement, read=engine, error_level=sqlglot.ErrorLevel.RAISE):
                # sqlglot knows no RECOVER PARTITIONS.
                passed_over = isinstance(parsed, sqlglot.exp.Command) and "RECOVER PARTITIONS" not in parsed.sql().upper()
                assert not passed_over, f"{engine}: {statement}"
