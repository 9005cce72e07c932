#!/usr/bin/env python3
"""Prints the tables of docs/performance.md from the raw data beside this file.

    docs/bench/tables.py 2026-11-23

Each figure is the median of its interleaved repeats. A ratio is the median of the ratios inside
one repeat, because a figure drifts from one repeat to the next and the ratio does not.
"""
import json
import os
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def rows(day, part):
    with open(os.path.join(HERE, f"{day}-{part}.jsonl"), encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def group(data, figure):
    """(case, server) -> the figure of each repeat, in order."""
    found = {}
    for row in data:
        if figure in row:
            found.setdefault((row["case"], row["name"]), []).append(row[figure])
    return found


def print_table(data, cases, servers, figure, digits):
    found = group(data, figure)
    print(f"\n{figure}\n| workload | " + " | ".join(servers) + " |")
    print("|---" * (len(servers) + 1) + "|")
    for case in cases:
        cells = []
        for server in servers:
            values = found.get((case, server))
            cells.append(f"{statistics.median(values):.{digits}f}" if values else "-")
        print(f"| {case} | " + " | ".join(cells) + " |")


def print_ratios(data, cases, against):
    found = group(data, "server_us_per_delivery")
    print("\nshardcast's CPU per delivery as a part of theirs\n| workload | " + " | ".join(against) + " |")
    print("|---" * (len(against) + 1) + "|")
    for case in cases:
        cells = []
        for server in against:
            pairs = zip(found.get((case, "shardcast"), []), found.get((case, server), []))
            ratios = [ours / theirs for ours, theirs in pairs if theirs]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "-")
        print(f"| {case} | " + " | ".join(cells) + " |")


def main():
    day = sys.argv[1]
    peers = rows(day, "peers")
    fanout = ["fanoutA", "fanoutA1", "fanoutB", "fanoutC", "fanoutD", "fanoutE"]
    servers = ["shardcast", "bun", "bun-raw", "nats", "limit-relay", "limit-relay-batch"]
    print_table(peers, fanout, servers, "server_us_per_delivery", 3)
    print_table(peers, fanout, servers, "server_user_us", 3)
    print_table(peers, fanout, servers, "deliveries_per_s", 0)
    print_ratios(peers, [*fanout, "latency"], servers[1:])
    paced = ["shardcast", "bun", "bun-raw", "nats", "node", "limit-relay"]
    for figure in ["server_us_per_delivery", "p50_us", "p99_us", "p999_us"]:
        print_table(peers, ["latency"], paced, figure, 2)
    idle = rows(day, "idle")
    for figure in ["rss_kb_per_conn", "connects_per_s", "server_us_per_connect"]:
        print_table(idle, ["idle"], servers[:5], figure, 2)
    stalled = rows(day, "stalled")
    for figure in ["p50_us", "p99_us", "p999_us", "rss_before_kb", "rss_peak_kb"]:
        print_table(stalled, ["healthy90", "stalled10of100"], ["shardcast", "bun", "nats"], figure, 0)
    scaling = rows(day, "scaling")
    cases = list(dict.fromkeys(row["case"] for row in scaling))
    for figure in ["server_us_per_delivery", "deliveries_per_s"]:
        print_table(scaling, cases, ["shardcast"], figure, 3)


main()
