#!/usr/bin/env python3
"""The drain beside other dispatchers: the same sink, the same run, mails of about the same size, ratios at the end.

    cargo bench --bench drain --no-run
    benches/peers.py --peers DIR --work DIR [--n 20000] [--runs 5] [PEER...]      (as root)

DIR of --peers holds a measure.py with its peers, as its README says; --work is where it keeps what the peers need.
Without names: the product on both databases, smtp-source as the ceiling, and every peer that the bars name. A peer
that is not installed says so and is left out of the ratios. The product is filled through ingest and plan and drains
with 64 slots in two groups, as `serve` does; gate, last look, exact copies and durable settings included.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

OURS = {"allclear-sqlite": [], "allclear-pg": ["pg"], "smtp-source": []}
PEERS = ["graphile-tuned-2p", "pgboss-tuned-2p", "bullmq-2p", "postfix", "apalis-pg", "apalis-sqlite"]
SCALE = ["graphile-tuned-2p", "pgboss-tuned-2p", "bullmq-2p"]
SLOTS, GROUPS = "64", "2"


def play(name, drain, task, n):
    """One of ours, called by measure.py: `enqueue` or `work`, with what it did as a line of JSON."""
    port = os.environ["SINK_PORT"]
    began = time.monotonic()
    if name == "smtp-source":
        mail = os.path.join(os.path.dirname(os.environ["MSG"]), "sample.lf")
        subprocess.run(["smtp-source", "-s", SLOTS, "-d", "-m", n, "-F", mail, "-f", "bounce@example.com",
                        "-t", "u@example.com", f"127.0.0.1:{port}"], check=True)
        print(json.dumps({"done": int(n), "seconds": time.monotonic() - began}))
        return
    file = os.path.join(tempfile.gettempdir(), "allclear-peers.db")
    url = f"sqlite://{file}" if name == "allclear-sqlite" else os.environ["PG_URL"]
    if task == "enqueue":
        if name == "allclear-sqlite":
            for end in ("", "-wal", "-shm", ".lock"):
                if os.path.exists(file + end):
                    os.remove(file + end)
        subprocess.run([drain, "fill", url, n], check=True, stdout=subprocess.DEVNULL)
        print(json.dumps({"enqueued": int(n), "seconds": time.monotonic() - began}))
    else:
        run = subprocess.run([drain, "run", url, port, SLOTS, GROUPS, "0"], check=True, capture_output=True, text=True)
        print(json.dumps({"done": int(n), "seconds": json.loads(run.stdout.splitlines()[-1])["seconds"]}))


def drain_binary():
    made = subprocess.run(["cargo", "bench", "--bench", "drain", "--no-run"], check=True, capture_output=True, text=True)
    return os.path.abspath(re.search(r"\(([^)]*drain-[0-9a-f]+)\)", made.stderr).group(1))


def copy_with_ours(peers, drain, folder):
    """The peers' own bench, with ours among the entries."""
    copy = os.path.join(folder, "peers")
    shutil.copytree(peers, copy)
    os.chmod(copy, 0o755)
    path = os.path.join(copy, "measure.py")
    os.chmod(path, 0o644)
    me = os.path.abspath(__file__)
    lines = "".join(f'    "{name}": ({services!r}, [{sys.executable!r}, {me!r}, "--play", "{name}", "--drain", {drain!r}], {{}}),\n'
                    for name, services in OURS.items())
    text = open(path).read()
    before = text
    text = re.sub(r"(?m)^(PEERS = \{.*\n)", lambda found: found.group(1) + lines, text, count=1)
    text = text.replace('name.startswith("apalis"):', 'name.startswith(("apalis", "allclear")):')
    if text.count("allclear") < 4 or text == before:
        sys.exit("measure.py is not as it is known here: ours could not be put into it")
    open(path, "w").write(text)
    return path


def ratios(rates):
    def of(ours, other, bar, what):
        if ours in rates and other in rates:
            print(f"{ours} / {what}: {rates[ours] / rates[other]:.2f} (bar {bar})")
    best = max((peer for peer in SCALE if peer in rates), key=lambda peer: rates[peer], default=None)
    for ours in ("allclear-sqlite", "allclear-pg"):
        if best:
            of(ours, best, 3.5, f"the best of graphile-worker, pg-boss and BullMQ ({best})")
        of(ours, "postfix", 8, "Postfix as the queue")
        of(ours, "smtp-source", 0.4, "smtp-source")
    of("allclear-pg", "apalis-pg", 1.3, "apalis on PostgreSQL")
    of("allclear-sqlite", "apalis-sqlite", 1, "apalis on SQLite")


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--peers")
    args.add_argument("--work")
    args.add_argument("--n", default="20000")
    args.add_argument("--runs", default="5")
    args.add_argument("--play")
    args.add_argument("--drain")
    args.add_argument("names", nargs="*")
    given = args.parse_args()
    if given.play:
        return play(given.play, given.drain, *given.names)
    if not given.peers or not given.work:
        args.error("--peers and --work are needed: see the head of this file")
    names = given.names or list(OURS) + PEERS
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        bench = copy_with_ours(given.peers, drain_binary(), folder)
        command = [sys.executable, bench, "--work", given.work, "--n", given.n, "--runs", given.runs, *names]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
            for line in run.stdout:
                print(line, end="", flush=True)
                if found := re.match(r"([a-z0-9-]+): .*drain (\d+) \[.*sink counted (\d+)-", line):
                    if int(found.group(3)) == int(given.n):
                        rates[found.group(1)] = int(found.group(2))
                    else:
                        print(f"{found.group(1)} is left out: the sink has not counted {given.n}")
    ratios(rates)


if __name__ == "__main__":
    main()
