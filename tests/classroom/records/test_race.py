"""The benchmarks' table says what was met and what was missed. Speed itself is printed there and never tested."""

from classroom.records import race as harness


def test_table_says_met_and_missed():
    """A contestant's row has rate, share of copy_, ratio, goal."""
    contestants = dict.fromkeys(["ours", "slow", "fast", "copy_"])
    race = harness.Race("task", 1 << 20, contestants, {"slow": 2, "fast": 2})
    seconds = {"ours": 1e-3, "slow": 3e-3, "fast": 5e-4, "copy_": 1e-4}
    lines = harness.rows(race, {name: harness.Timing((value,)) for name, value in seconds.items()})
    cells = {line.split("|")[3].strip(): [cell.strip() for cell in line.split("|")[4:-1]] for line in lines}
    assert cells["ours"] == ["1.049", "1.049", "0.10", "", ""]
    assert cells["slow"][3:] == ["3.00x", "2x: met"]
    assert cells["fast"][3:] == ["0.50x", "2x: missed"]
    assert cells["copy_"][2:] == ["1.00", "", ""]
