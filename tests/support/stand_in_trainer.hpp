/// A program that behaves as tools/train does for whoever starts it, and takes milliseconds: its
/// mIoU is a formula of the learning rate.
#pragma once
#include <filesystem>
#include <string>

#include "tests/support/temp_dir.hpp"

namespace seg::test {

/// Takes the config, --work-dir and --resume. Saves a checkpoint every five iterations and at
/// SIGTERM, after which it exits with 20. The best learning rate is 0.01; half of the metric comes
/// with the first iterations, in the order of the final ones. Each validation takes STAND_IN_PAUSE
/// seconds (default: 0.02). Files beside it: while there is "broken", learning rates above 0.5 end
/// with an error; while there is "hold", it waits from iteration 6 on; every start and every
/// iteration is noted in "starts.txt" and "iterations.txt".
inline std::string write_stand_in_trainer(const TempDir& dir) {
  const std::string path = dir.write("stand_in", R"py(#!/usr/bin/env python3
import fcntl, json, math, os, re, signal, sys, time

config, work_dir = open(sys.argv[1]).read(), sys.argv[sys.argv.index("--work-dir") + 1]
here = os.path.dirname(os.path.abspath(__file__))
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
lock = os.open(work_dir, os.O_RDONLY)
fcntl.flock(lock, fcntl.LOCK_EX)

def note(name, line):
    with open(os.path.join(here, name), "a") as file:
        file.write(line + "\n")

def number(key):
    return float(re.search(r"\b%s: *([-+.\deE]+)" % key, config).group(1))

lr, last, every = number("lr"), int(number("max_iters")), int(number("val_interval"))
note("starts.txt", os.path.basename(work_dir))
note("gpus.txt", " ".join([os.environ.get("CUDA_VISIBLE_DEVICES", "none")] + sys.argv[4:]))
print("the stand-in trains", work_dir, flush=True)
if lr > 0.5 and os.path.exists(os.path.join(here, "broken")):
    print("reading the data\nerror: the folder data/lost does not exist\nbye", flush=True)
    sys.exit(1)

def save(i):
    path = os.path.join(work_dir, "iter_%d.pth" % i)
    open(path, "w").close()
    with open(os.path.join(work_dir, "last_checkpoint.tmp"), "w") as file:
        file.write(path)
    os.rename(file.name, os.path.join(work_dir, "last_checkpoint"))

begin = 0
newest = os.path.join(work_dir, "last_checkpoint")
if "--resume" in sys.argv and os.path.exists(newest):  # else from the beginning, as tools/train
    begin = int(re.search(r"iter_(\d+)", open(newest).read()).group(1))
launches = [f for f in os.listdir(work_dir) if f.startswith("launch_")]
folder = os.path.join(work_dir, "launch_%05d" % (len(launches) + 1), "vis_data")
os.makedirs(folder)
scalars = open(os.path.join(folder, "scalars.json"), "w")

def record(row):
    scalars.write(json.dumps(row) + "\n")
    scalars.flush()

for i in range(begin + 1, last + 1):
    record({"lr": lr, "loss": 1 + 1 / i, "time": 0.01, "iter": i, "step": i})
    note("iterations.txt", os.path.basename(work_dir))
    if i % every == 0:
        record({"mIoU": (80 - 15 * abs(math.log10(lr) + 2)) * (0.5 + 0.5 * i / last), "step": i})
        time.sleep(float(os.environ.get("STAND_IN_PAUSE", "0.02")))
    while i >= 6 and not stop and os.path.exists(os.path.join(here, "hold")):
        time.sleep(0.01)
    if i % 5 == 0:
        save(i)
    if stop:
        save(i)
        print("error: stopped by SIGTERM", flush=True)
        sys.exit(20)
save(last)
)py");
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path;
}

}  // namespace seg::test
