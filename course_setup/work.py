"""The student's own copies: `work/notebooks` and `work/exercises`, which git ignores.

A copy that the student has not changed follows the course; a changed one is theirs, and they are told when the course
has a newer version. Links between notebooks hold, since the copies lie side by side as the originals do.
"""

import glob
import hashlib
import json
import os
import shutil

from course_setup.common import call, read, say, write

FOLDERS = ("notebooks", "exercises")
RECORD = ".originals.json"  # {notebook: hash of the original that its copy was made from}


def originals(root):
    """The course's notebooks as paths relative to `root`, in order, with / between folder and file."""
    return [
        f"{folder}/{os.path.basename(path)}"
        for folder in FOLDERS
        for path in sorted(glob.glob(os.path.join(glob.escape(root), folder, "[0-9][0-9]_*.ipynb")))
    ]


def refresh(root):
    """Make missing copies, renew unchanged ones; returns the copies that are changed while the course has a newer one.

    A record that is lost or spoiled only means that every copy that differs counts as changed.
    """
    record, newer = read_record(root), []
    for name in originals(root):
        original, copy = os.path.join(root, name), os.path.join(root, "work", name)
        now = file_hash(original)
        mine = file_hash(copy)
        if mine == now:
            record[name] = now
        elif mine is None or mine == record.get(name):
            copy_whole(original, copy)
            record[name] = now
        elif record.get(name) != now:
            newer.append(name)
    write(os.path.join(root, "work", RECORD), json.dumps(record, indent=1) + "\n")
    return newer


def read_record(root):
    os.makedirs(os.path.join(root, "work"), exist_ok=True)
    try:
        record = json.loads(read(os.path.join(root, "work", RECORD)) or "{}")
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def copy_whole(original, copy):
    """Copy by way of a draft, so that an interruption leaves no half notebook under the name."""
    os.makedirs(os.path.dirname(copy), exist_ok=True)
    shutil.copyfile(original, copy + ".part")
    os.replace(copy + ".part", copy)


def file_hash(path):
    """SHA-256 of a file, None if it is not there."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def tell_of_newer(newer):
    for name in newer:
        say(
            f"{name} has a newer version. Your changed copy work/{name} is kept; to get the new one, rename or delete "
            "your copy, then run this again."
        )


# ---------------------------------------------------------------- trust

# JupyterLab hides the committed figures of a notebook that is not trusted until each cell is run again.


def trust(environment, stamp):
    """Sign the course's own notebooks that are not signed yet; `stamp` remembers which are.

    A signature is of the content, so it holds for an unchanged copy too. What came into work/ from elsewhere, or was
    changed outside of JupyterLab, stays untrusted.
    """
    signed = set((read(stamp) or "").split())
    pattern = os.path.join(glob.escape(environment.root), "*", "[0-9][0-9]_*.ipynb")
    keys = {signature_key(file_hash(path)): path for path in sorted(glob.glob(pattern))}
    unsigned = [path for key, path in keys.items() if key not in signed]
    if unsigned and call([environment.python, "-m", "nbformat.sign", *unsigned], quiet=True) == 0:
        write(stamp, "\n".join(keys) + "\n")


def signature_key(content):
    """Signatures lie in the person's own Jupyter folder: another person, or another folder, has to sign anew."""
    place = os.environ.get("JUPYTER_DATA_DIR", "") + os.path.expanduser("~")
    return hashlib.sha256((content + place).encode()).hexdigest()
