"""Patients and what is noted about them. An ordinary program for ``sqlite3``: it knows nothing of VerityDB.

python clinic.py admit "Jane Smith" 1985-03-22
python clinic.py note 1 "cough for a week, no fever"
python clinic.py correct 1 "cough for two weeks, no fever"
python clinic.py erase 1
python clinic.py show
"""

import os
import sqlite3
import sys

SCHEMA = """
CREATE TABLE IF NOT EXISTS patients (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    born TEXT NOT NULL CHECK (born IS date(born)),
    notes_count INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS notes (
    id INTEGER PRIMARY KEY,
    patient_id INTEGER NOT NULL REFERENCES patients ON DELETE CASCADE,
    body TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS notes_counted AFTER INSERT ON notes BEGIN
    UPDATE patients SET notes_count = notes_count + 1 WHERE id = new.patient_id;
END;
"""


def opened() -> sqlite3.Connection:
    db = sqlite3.connect(os.environ.get("CLINIC_DB", "clinic.db"))
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA foreign_keys = ON")
    return db


def admit(db: sqlite3.Connection, name: str, born: str) -> str:
    with db:
        cursor = db.execute("INSERT INTO patients (name, born) VALUES (?, ?)", (name, born))
    return f"patient {cursor.lastrowid}"


def note(db: sqlite3.Connection, patient: str, body: str) -> str:
    with db:
        cursor = db.execute("INSERT INTO notes (patient_id, body) VALUES (?, ?)", (patient, body))
    return f"note {cursor.lastrowid}"


def correct(db: sqlite3.Connection, number: str, body: str) -> str:
    with db:
        changed = db.execute("UPDATE notes SET body = ? WHERE id = ?", (body, number)).rowcount
    return f"{changed} note corrected"


def erase(db: sqlite3.Connection, patient: str) -> str:
    with db:
        db.execute("DELETE FROM patients WHERE id = ?", (patient,))
    return f"patient {patient} is gone, and every note about them"


def show(db: sqlite3.Connection) -> str:
    rows = db.execute("""
        SELECT name, born, body FROM patients LEFT JOIN notes ON patient_id = patients.id ORDER BY patients.id, notes.id
    """)
    return "\n".join(f"{row['name']} ({row['born']}): {row['body'] or '-'}" for row in rows) or "nobody"


COMMANDS = {"admit": admit, "note": note, "correct": correct, "erase": erase, "show": show}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    db = opened()
    try:
        if sys.argv[1] != "show":
            db.executescript(SCHEMA)
        print(COMMANDS[sys.argv[1]](db, *sys.argv[2:]))
    except sqlite3.IntegrityError as error:
        sys.exit(f"refused: {error}")
    finally:
        db.close()


if __name__ == "__main__":
    main()
