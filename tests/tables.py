"""Reads a table that the tool has written with whatever readers of tables are here, and compares
each cell with what it is to hold.

    tables.py TABLE.csv EXPECTED.json

EXPECTED has an object a row: the user's cells in "own", and "answer". The table has four columns of
the user's own, then answer, error and prompt_tokens. Each reader says in a line what it has read.
"""

import csv
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

table = Path(sys.argv[1])
expected = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
COLUMNS = ["n", "text", "more", "note", "answer", "error", "prompt_tokens"]


def check(reader, columns, rows, same=lambda cell: cell):
    """`same` is what the reader is known to make of a cell."""
    assert list(columns) == COLUMNS, f"{reader}: columns {columns}"
    assert len(rows) == len(expected), f"{reader}: {len(rows)} rows"
    cells = empty = 0
    for number, (row, want) in enumerate(zip(rows, expected)):
        want = [*want["own"], want["answer"], "", str(number)]
        for column, cell, wanted in zip(COLUMNS, row, want):
            cells += 1
            empty += wanted == ""
            assert cell == same(wanted), f"{reader}: row {number}, {column}: {cell!r} is not {wanted!r}"
    print(f"{reader}: {len(rows)} rows, {cells} cells, {empty} of them empty, all as expected")


def read_by_csv():
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    check("csv of Python", rows[0], rows[1:])


def read_by_pandas():
    import pandas

    frame = pandas.read_csv(table, dtype=str, keep_default_na=False)
    check(f"pandas {pandas.__version__}", frame.columns, frame.values.tolist())
    # As most people call it: empty cells are NaN, and columns of numbers are numbers.
    frame = pandas.read_csv(table)
    assert frame["prompt_tokens"].tolist() == list(range(len(expected))), "pandas: numbers"
    assert frame["error"].isna().all() and frame["answer"].notna().all(), "pandas: empty cells"


def read_by_duckdb():
    import duckdb

    for name, options in [("duckdb", ""), ("duckdb, all as text", ", all_varchar = true")]:
        found = duckdb.sql(f"SELECT * FROM read_csv('{table}'{options})")
        rows = [["" if cell is None else str(cell) for cell in row] for row in found.fetchall()]
        check(f"{name} {duckdb.__version__}", found.columns, rows)


def read_by_spreadsheet(program, arguments):
    """Turned into xlsx by a spreadsheet program, which is then read by openpyxl."""
    from openpyxl import load_workbook

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / (table.stem + ".xlsx")
        command = [program, *(part.format(folder=folder, table=table, target=target) for part in arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        rows = list(load_workbook(target).active.iter_rows())
    # It runs formulas, the user's own among them. What is added must be none.
    formulas = [[cell.data_type == "f" for cell in row] for row in rows[1:]]
    own, added = (sum(sum(row[part]) for row in formulas) for part in (slice(0, 4), slice(4, None)))
    assert added == 0, f"{program}: {added} formulas"
    # It makes one line end of another, and an empty cell has no value.
    plain = lambda text: str(text or "").replace("_x000D_", "\r").replace("\r\n", "\n")
    answers = [plain(row[4].value) for row in rows[1:]]
    assert answers == [plain(want["answer"]) for want in expected], f"{program}: answers"
    print(f"{Path(program).name}: {len(answers)} rows, all answers as expected; of formulas {own} of the user's own, {added} added")


def main():
    read_by_csv()
    for module, read in [("pandas", read_by_pandas), ("duckdb", read_by_duckdb)]:
        try:
            __import__(module)
        except ImportError:
            print(f"SKIPPED: no {module}")
            continue
        read()
    for program, arguments in [
        ("soffice", ["--headless", "--infilter=CSV:44,34,76,1", "--convert-to", "xlsx", "--outdir", "{folder}", "{table}"]),
        ("ssconvert", ["{table}", "{target}"]),
    ]:
        if shutil.which(program):
            read_by_spreadsheet(program, arguments)
        else:
            print(f"SKIPPED: no {program}")


main()
