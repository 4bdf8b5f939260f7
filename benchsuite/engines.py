"""Times chestnut and the CPU engines of other languages side by side: seven networks, batch 1 and 8, float32.

    benchsuite/setup.sh                                        once: makes .venv-bench
    cargo build --release
    .venv-bench/bin/python benchsuite/engines.py --name NAME   measures; writes benchsuite/runs/NAME.json, prints tables
    .venv-bench/bin/python benchsuite/engines.py --show benchsuite/runs/NAME.json   prints the tables again

Every engine sits in a process of its own on the same two cores, has loaded the same weights and has shown that its
outputs equal Keras's. Then the engines take turns (round robin, another one first in each round); those not on turn
are stopped by a signal, so nothing of theirs runs. What other programs used of the cores meanwhile is recorded, and a
turn that they disturbed is repeated.
Linux only.
"""

import argparse
import ctypes
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import resource
import signal
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "benchsuite"))

import prepare  # noqa: E402

NETS = list(prepare.formula.NETS)
PEERS = ["onnxruntime", "openvino", "torch", "keras"]
EXTRAS = ["openvino-throughput", "torch-compile", "keras-xla"]
TITLES = {"chestnut": "chestnut", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "PyTorch", "keras": "Keras",
          "openvino-throughput": "OpenVINO throughput", "torch-compile": "torch.compile", "keras-xla": "Keras XLA"}
PACKAGES = ["onnxruntime", "openvino", "torch", "tensorflow_cpu", "keras", "onnx", "numpy"]
TOLERANCE = 1e-3
BUSY = 0.15  # cores used by other programs from which on a turn is called disturbed
TICK = os.sysconf("SC_CLK_TCK")
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
RUNS = ROOT / "benchsuite" / "runs"
LOGS = prepare.FOLDER / "logs"


# ---- chestnut: all that is known about our own command is in this section -------------------------------------------

CHESTNUT = ROOT / "target/release/chestnut"
QUICK = ROOT / "target/release/examples/quick"


def chestnut_turn(net, batch, seconds, cores):
    """One turn of our own engine: {"times_ms": [...]} of whole batches, and the outputs if the command tells them."""
    if CHESTNUT.exists() and not subprocess.run([CHESTNUT, "bench", "--help"], capture_output=True).returncode:
        command = [CHESTNUT, "bench", "--net", f"seeded:{net}", "--batch", str(batch), "--seconds", str(seconds),
                   "--threads", str(len(cores)), "--json"]
        runs = json.loads(output_of(command, cores))["runs"]
        run = next(run for run in runs if run["network"].endswith(net) and run["batch"] == batch)
        answer = {"times_ms": run["times_ms"], "note": "chestnut bench"}
        if "probabilities" in run:  # of the first formula-made image
            answer["probabilities"] = run["probabilities"][:prepare.LABELS]
        return answer
    # A build without `chestnut bench`: one median per call, measured for 3 s whatever was asked.
    text = output_of([QUICK, net, str(batch)], cores)
    rate = float(re.search(rf"b{batch}: ([\d.]+) img/s", text).group(1))
    return {"times_ms": [batch / rate * 1e3], "note": "example quick: one median per round"}


def output_of(command, cores):
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=lambda: confine(cores)).stdout
    except FileNotFoundError:
        raise SystemExit(f"{pathlib.Path(command[0]).relative_to(ROOT)} is missing: cargo build --release") from None


class Chestnut:
    """Our own engine has no persistent worker: each turn is one run of the command, its loading not counted."""

    def __init__(self, net, cores):
        self.net, self.cores = net, cores

    def load(self, batch):
        answer = chestnut_turn(self.net, batch, 0, self.cores)
        if "probabilities" in answer:
            import numpy

            wanted = numpy.load(prepare.paths(self.net)[2])["probabilities"][0]
            answer["probabilities_error"] = float(numpy.abs(wanted - numpy.array(answer["probabilities"])).max())
        return answer

    def turn(self, batch, seconds):
        return chestnut_turn(self.net, batch, seconds, self.cores)

    def cpu_seconds(self):
        return 0.0  # finished children are in RUSAGE_CHILDREN

    def close(self):
        pass


def confine(cores):
    """In a child before it starts: these cores only, and its end when we end (a stopped worker would stay for ever)."""
    os.sched_setaffinity(0, cores)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


# ---- the others -----------------------------------------------------------------------------------------------------


class Peer:
    """A worker process (peers.py) that is stopped by a signal whenever it is not asked."""

    def __init__(self, engine, net, cores):
        LOGS.mkdir(parents=True, exist_ok=True)
        with open(LOGS / f"{net}-{engine}.log", "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, ROOT / "benchsuite/peers.py", engine, net, str(len(cores))], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=lambda: confine(cores))

    def ask(self, **order):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            return {"error": f"the worker ended with {self.process.wait()}"}
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def load(self, batch):
        return self.ask(do="load", batch=batch)

    def turn(self, batch, seconds):
        return self.ask(do="time", batch=batch, seconds=seconds)

    def cpu_seconds(self):
        try:
            fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / TICK

    def close(self):
        self.process.kill()
        self.process.wait()


# ---- measuring ------------------------------------------------------------------------------------------------------


def core_seconds(cores):
    """(busy, stolen by the hypervisor) seconds of these cores since boot."""
    busy = stolen = 0
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *values = line.split()
        if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _, _, irq, softirq, steal = map(int, values[:8])
            busy += user + nice + system + irq + softirq
            stolen += steal
    return busy / TICK, stolen / TICK


def own_seconds(engines):
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage) + sum(engine.cpu_seconds() for engine in engines)


def measured_turn(engine, engines, batch, seconds, cores):
    """One turn with what others used of the cores meanwhile, in cores."""
    before, own, start = core_seconds(cores), own_seconds(engines), time.monotonic()
    answer = engine.turn(batch, seconds)
    wall = time.monotonic() - start
    after = core_seconds(cores)
    others = after[0] - before[0] - (own_seconds(engines) - own)
    answer["others"] = round(max(others, 0.0) / wall, 3)
    answer["stolen"] = round((after[1] - before[1]) / wall, 3)
    return answer


def measure_net(net, arguments, cores, record):
    prepared = prepare.paths(net)
    newest = (ROOT / "benchsuite/prepare.py").stat().st_mtime
    if not all(path.exists() and path.stat().st_mtime > newest for path in prepared):
        print(f"{net}: preparing", file=sys.stderr)
        subprocess.run([sys.executable, ROOT / "benchsuite/prepare.py", net], check=True, stdout=subprocess.DEVNULL)
    engines = {}
    try:
        for name in arguments.engines:
            engine = Chestnut(net, cores) if name == "chestnut" else Peer(name, net, cores)
            engines[name] = engine
            for batch in arguments.batch:
                answer = engine.load(batch)
                problem = answer.get("error")
                errors = {key: answer[key] for key in ("embedding_error", "probabilities_error") if key in answer}
                if not problem and not all(value <= TOLERANCE for value in errors.values()):
                    problem = f"outputs differ from Keras's: {errors}"
                if problem:
                    raise SystemExit(f"{net}, {name}, batch {batch}: {problem} (see {LOGS.relative_to(ROOT)})")
                record["engines"].append({"network": net, "engine": name, "batch": batch, "note": answer["note"], **errors})
                shown = ", ".join(f"{key} {value:.1e}" for key, value in errors.items()) or "outputs not told"
                print(f"{net} {name} b{batch}: {answer['note']}; {shown}", file=sys.stderr, flush=True)
        for batch in arguments.batch:
            for turn in range(arguments.rounds):
                load = os.getloadavg()[0]
                shift = turn % len(arguments.engines)
                for name in arguments.engines[shift:] + arguments.engines[:shift]:
                    turns = []
                    while not turns or (turns[-1]["others"] + turns[-1]["stolen"] > BUSY and len(turns) <= arguments.repeats):
                        answer = measured_turn(engines[name], engines.values(), batch, arguments.seconds, cores)
                        if "error" in answer:
                            raise SystemExit(f"{net}, {name}, batch {batch}: {answer['error']}")
                        turns.append({"network": net, "batch": batch, "round": turn, "engine": name, "load_average": round(load, 2),
                                      **{key: answer[key] for key in ("times_ms", "others", "stolen")}})
                        rate = 1e3 * batch / statistics.median(answer["times_ms"])
                        print(f"{net} b{batch} round {turn + 1} load {load:.2f} {name}: {rate:.2f} img/s "
                              f"(others {answer['others']:.2f} cores)", file=sys.stderr, flush=True)
                    # Chosen by what others did, never by the time.
                    kept = min(turns, key=lambda t: t["others"] + t["stolen"])
                    record["turns"].append(kept)
                    record["disturbed"] += [t for t in turns if t is not kept]
    finally:
        for engine in engines.values():
            engine.close()


def machine(cores):
    info = pathlib.Path("/proc/cpuinfo").read_text()
    field = lambda key: next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith(key)), "?")
    flags = set(field("flags").split())
    wanted = ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"processor": field("model name"), "family": f"{field('cpu family')}.{field('model')}.{field('stepping')}",
            "mhz": field("cpu MHz"), "architecture": platform.machine(), "cores_of_machine": os.cpu_count(),
            "cores_used": sorted(cores), "memory_gib": round(memory, 1), "flags": [f for f in wanted if f in flags],
            "system": f"{platform.system()} {platform.release()}", "python": platform.python_version()}


def versions():
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def commit():
    shown = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return shown.stdout.strip() or "unknown"


# ---- tables ---------------------------------------------------------------------------------------------------------


def summaries(record):
    """{(network, batch, engine): {"times", "rounds": one median per round, "median", ...}} in milliseconds."""
    found = {}
    for turn in record["turns"]:
        entry = found.setdefault((turn["network"], turn["batch"], turn["engine"]), {"times": [], "rounds": {}})
        entry["times"] += turn["times_ms"]
        entry["rounds"][turn["round"]] = statistics.median(turn["times_ms"])
    for entry in found.values():
        times = sorted(entry["times"])
        low, median, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
        entry.update(median=median, low=low, high=high, least=times[0], most=times[-1])
    return found


def print_tables(record):
    found = summaries(record)
    nets, batches, engines = record["networks"], record["batches"], record["engines_asked"]
    peers = [engine for engine in engines if engine != "chestnut"]
    nets = [net for net in nets if all((net, batch, engine) in found for batch in batches for engine in engines)]
    if not nets:
        raise SystemExit("no network was measured to its end")
    place = record["machine"]
    print(f"{place['processor']} ({place['family']}; {' '.join(place['flags'])}), {len(place['cores_used'])} of "
          f"{place['cores_of_machine']} cores, {place['memory_gib']} GiB, {place['system']}; {record['started']}; "
          f"chestnut {record['commit']}; " + ", ".join(f"{k} {v}" for k, v in record["versions"].items() if v != "absent") + ".")
    turns = record["turns"]
    loads = [turn["load_average"] for turn in turns]
    disturbed = [turn for turn in turns if turn["others"] + turn["stolen"] > BUSY]
    print(f"{record['rounds']} rounds of {record['seconds']} s per engine, taking turns. Load average before the rounds "
          f"{min(loads):.2f} to {max(loads):.2f} (the benchmark itself adds up to {len(place['cores_used'])}); other programs and the hypervisor used "
          f"{max(turn['others'] + turn['stolen'] for turn in turns):.2f} cores at most, "
          f"more than {BUSY} in {len(disturbed)} of {len(turns)} turns ({len(record['disturbed'])} turns with more were repeated).\n")

    def best_peer(net, batch):
        return min(peers, key=lambda engine: found[net, batch, engine]["median"]) if peers else None

    compared = "chestnut" in engines and peers
    print(f"Images per second (median), batch {' / '.join(map(str, batches))}; float32, 224 x 224, embedding and 14 probabilities.\n")
    header = ["network"] + [TITLES[e] for e in engines]
    if compared:
        header += [f"chestnut / best peer, b{batch} (rounds)" for batch in batches]
    print_row(header)
    print_row(["---"] * len(header))
    ratios = {batch: [] for batch in batches}
    for net in nets:
        row = [prepare.formula.NETS[net]]
        row += [" / ".join(f"{1e3 * batch / found[net, batch, e]['median']:.1f}" for batch in batches) for e in engines]
        for batch in batches if compared else []:
            peer = best_peer(net, batch)
            ours, theirs = found[net, batch, "chestnut"], found[net, batch, peer]
            ratio = theirs["median"] / ours["median"]
            each = [theirs["rounds"][r] / ours["rounds"][r] for r in ours["rounds"] if r in theirs["rounds"]]
            ratios[batch].append(ratio)
            row.append(f"**{ratio:.2f}** ({min(each):.2f} to {max(each):.2f}) {TITLES[peer]}")
        print_row(row)
    if compared:
        means = [f"**{statistics.geometric_mean(ratios[batch]):.2f}** (lowest {min(ratios[batch]):.2f})" for batch in batches]
        print_row(["geometric mean"] + [""] * len(engines) + means)
        total = {e: [sum(found[net, batch, e]["median"] / batch for net in nets) for batch in batches] for e in engines}
        print_row([f"{len(nets)} networks, ms per image"] + [" / ".join(f"{ms:.0f}" for ms in total[e]) for e in engines]
                  + [""] * len(batches))

    print("\nMilliseconds per pass of the whole batch.\n")
    print_row(["network", "batch", "engine", "median", "quartiles", "least to most", "passes", "note"])
    print_row(["---"] * 8)
    notes = {(e["network"], e["batch"], e["engine"]): e for e in record["engines"]}
    for net in nets:
        for batch in batches:
            for engine in engines:
                s, note = found[net, batch, engine], notes[net, batch, engine]
                print_row([prepare.formula.NETS[net], batch, TITLES[engine], f"{s['median']:.2f}", f"{s['low']:.2f} to {s['high']:.2f}",
                           f"{s['least']:.2f} to {s['most']:.2f}", len(s["times"]), note["note"]])
    worst = lambda key: max((e[key] for e in record["engines"] if key in e), default=float("nan"))
    silent = sorted({TITLES[e["engine"]] for e in record["engines"] if "probabilities_error" not in e})
    print(f"\nBefore timing, largest difference from Keras: embedding {worst('embedding_error'):.1e} (relative L2), probabilities "
          f"{worst('probabilities_error'):.1e}." + f" Not compared in this run: {', '.join(silent)}." * bool(silent))


def print_row(cells):
    print("| " + " | ".join(map(str, cells)) + " |")


def listed(allowed):
    def parse(text):
        values = text.split(",")
        unknown = [value for value in values if value not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: known are {', '.join(allowed)}")
        return values
    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    engines = ["chestnut", *PEERS, *EXTRAS]
    parser.add_argument("--name", default="latest", help="the runs go to benchsuite/runs/NAME.json")
    parser.add_argument("--nets", type=listed(NETS), default=NETS, help="separated by commas [default: all seven]")
    parser.add_argument("--engines", type=listed(engines), default=engines[:5], help=f"of {', '.join(engines)} [default: the first five]")
    parser.add_argument("--batch", type=lambda text: [int(b) for b in text.split(",")], default=[1, 8], help="up to 8 [default: 1,8]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="per engine and round; at least three passes are made [default: 2]")
    parser.add_argument("--threads", type=int, default=2, help="as many cores are used, the first that this process may use [default: 2]")
    parser.add_argument("--repeats", type=int, default=2,
                        help=f"how often a turn is repeated in which other programs used more than {BUSY} cores [default: 2]")
    parser.add_argument("--show", type=pathlib.Path, help="print the tables of a file of runs; measure nothing")
    parser.add_argument("--versions", action="store_true", help="print the installed peers")
    arguments = parser.parse_args()
    if arguments.versions:
        print(", ".join(f"{package} {version}" for package, version in versions().items()))
        return
    if arguments.show:
        print_tables(json.loads(arguments.show.read_text()))
        return
    if not all(1 <= batch <= prepare.IMAGES for batch in arguments.batch) or arguments.rounds < 1:
        parser.error(f"--batch must be 1 to {prepare.IMAGES}, --rounds at least 1")
    cores = set(sorted(os.sched_getaffinity(0))[:arguments.threads])
    if len(cores) < arguments.threads:
        parser.error(f"only {len(cores)} cores are available")
    record = {"about": "Made by benchsuite/engines.py. times_ms: milliseconds of each pass of the whole batch; others, stolen: cores used "
                       "meanwhile by other programs and by the hypervisor.",
              "started": datetime.datetime.now().astimezone().isoformat(timespec="minutes"), "machine": machine(cores),
              "versions": versions(),
              "commit": commit(), "networks": arguments.nets, "batches": arguments.batch, "engines_asked": arguments.engines,
              "rounds": arguments.rounds, "seconds": arguments.seconds, "engines": [], "turns": [], "disturbed": []}
    RUNS.mkdir(exist_ok=True)
    path = RUNS / f"{arguments.name}.json"
    for net in arguments.nets:
        measure_net(net, arguments, cores, record)
        save(record, path)
    print_tables(record)
    print(f"wrote {path.relative_to(ROOT)}", file=sys.stderr)


def save(record, path):
    """One line per turn; after each network, so that an interrupted run leaves the networks it finished."""
    rows = lambda key: "[\n" + ",\n".join("  " + json.dumps(row) for row in record[key]) + "\n ]"
    parts = [f" {json.dumps(key)}: {rows(key) if key in ('engines', 'turns', 'disturbed') else json.dumps(value)}"
             for key, value in record.items()]
    partial = path.with_suffix(".part")
    partial.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    partial.replace(path)


if __name__ == "__main__":
    main()
