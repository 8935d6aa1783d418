#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# All there is to say of a GPU in one command, within 8 minutes, without network: builds the engine
# alone for the card at hand, runs every test of the CUDA back end on it, measures what the card can
# do and what the engine makes of it, gaps between steps included, and prints all that as a table.
# Needs a C compiler, nvcc (see tools/find-cuda), meson, ninja and Python; no library. The weights are
# random, made here and removed again.
#
# usage: tools/bench/gpu.sh [FOLDER]
#
#   FOLDER        the build, kept for the next time; build-gpu without it
#   $GPU          number of the card, 0 without it
#   $ARCH         what to build for, 90; without it what the card is, or all where there is none
#   $BUILD        only: builds, and puts the programs, without what debuggers read, into
#                 FOLDER/carry.tar.xz, to be taken to a machine with a card (python3 -m tarfile -e
#                 FOLDER/carry.tar.xz ELSEWHERE); never: takes FOLDER as it is, nothing is built
#   $BENCH_FILES  where the models lie meanwhile (17 GB): /dev/shm if it has room, else $TMPDIR or /tmp
#   $SKIP_TESTS   not empty: only the measurements
#   $SANITIZE     not empty: compute-sanitizer over the tests of kernels too, memcheck and racecheck, for
#                 two minutes at most; measured is what the time is left for
#   $ONLY         rows to measure instead of all, as in ONLY="8b:BF16 8b:BF16:-f:-k 8b:Q8_0": what
#                 stands behind the type are options of bench-gpu
#   $LIMIT_S      seconds for all of it, 470; what does not end by then is ended
#
# What is known is printed as soon as it is, and goes to FOLDER/bench-gpu.txt too; FOLDER/bench-gpu.all
# has that of all runs, for tools/bench/gpu_table.py --compare. A part that fails
# is said, and does not keep the others from being tried; the exit status is 1 then.
set -eu

limit_s=${LIMIT_S:-470}
if [ -z "${GPU_SH_INNER:-}" ]; then # whatever hangs
	GPU_SH_INNER=1 exec timeout -k 5 $((limit_s + 5)) "$0" "$@"
fi
began=$(date +%s)
cd "$(dirname "$0")/../.."
build=${1:-build-gpu}
gpu=${GPU:-0}
export LLMFS_FIXTURES="$PWD/tests/fixtures/logits" # FOLDER may be another machine's

left() {
	echo $((limit_s - ($(date +%s) - began)))
}

say() {
	printf '%s\n' "$*"
}

# A part that did not work.
missing() {
	say "gpu.sh: $*"
	verdict=1
}

# within SECONDS PROGRAM...: so many at most, and no more than are left; 124 when they were too few.
within() {
	most=$1
	shift
	[ "$(left)" -ge "$most" ] || most=$(left)
	[ "$most" -ge 1 ] || return 124
	timeout -k 5 "$most" "$@"
}

# Of the card, as nvcc counts: 90. The list of all when nobody says.
find_arch() {
	if [ -n "${ARCH:-}" ]; then
		say "$ARCH"
	else
		within 20 nvidia-smi -i "$gpu" --query-gpu=compute_cap --format=csv,noheader 2>/dev/null |
			tr -d '. ' || true
	fi
}

# What can be built is, so that one program that cannot leaves the others.
build_engine() {
	arch=$(find_arch)
	if [ ! -e "$build/build.ninja" ]; then
		within 60 meson setup "$build" -Dengine_only=true -Dcuda=enabled -Dbuildtype=release \
			${arch:+-Dgpu_arch="$arch"} >"$log" 2>&1 ||
			{ tail -n 20 "$log"; missing "meson setup failed"; return; }
	fi
	rc=0
	within "$limit_s" ninja -C "$build" -k 0 >"$log" 2>&1 || rc=$?
	if [ "$rc" != 0 ]; then
		grep -A 12 -E '^FAILED|error' "$log" | head -n 60 || true
		missing "not everything was built (exit status $rc)"
	fi
	say "built for sm_${arch:-all} after $(($(date +%s) - began)) s"
}

# Programs to be taken elsewhere, in the folders in which they are looked for. They have the same kernels,
# so that together they become small; Python can do it everywhere.
pack() {
	mkdir -p "$build/carry/tools" "$build/carry/tests/simt"
	for program in tools/bench-gpu tools/random-gguf "$build"/tests/simt/test_device_*; do
		program=${program#"$build"/}
		[ -f "$build/$program" ] || continue
		strip -o "$build/carry/$program" "$build/$program" || missing "no $program"
	done
	python3 -c 'import lzma, sys, tarfile
quick = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 26}]
with lzma.open(sys.argv[1], "w", filters=quick) as out, tarfile.open(fileobj=out, mode="w") as tar:
    tar.add(sys.argv[2], ".")' "$build/carry.tar.xz" "$build/carry" || missing "no $build/carry.tar.xz"
	rm -rf "$build/carry"
	say "$build/carry.tar.xz: $(du -sm "$build/carry.tar.xz" | cut -f 1) MB"
}

# Their verdict does not keep the measurements from being made: both are wanted of a new card.
run_tests() {
	n_good=0
	for program in "$build"/tests/simt/test_device_*; do
		[ -f "$program" ] || continue
		name=${program##*/test_device_}
		start=$(date +%s)
		rc=0
		within 120 "$program" >"$log" 2>&1 || rc=$?
		case $rc in
		0) n_good=$((n_good + 1)); say "device/$name: passed, $(($(date +%s) - start)) s" ;;
		77) missing "device/$name: SKIPPED, there is no card" ;;
		*)
			missing "device/$name: NOT passed (exit status $rc)"
			grep -vE '^ok ' "$log" | tail -n 12 | sed 's/^/  /' || true
			;;
		esac
		[ "$(left)" -ge 5 ] || break
	done
	say "tests on the device: $n_good passed after $(($(date +%s) - began)) s"
	[ "$n_good" -gt 0 ] || missing "no test passed"
}

# Those that do not end in their time say nothing; whose report has errors, that.
sanitize() {
	checker=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null ||
		true)
	if [ -z "$checker" ]; then
		say "compute-sanitizer: there is none on this machine"
		return
	fi
	until=$(($(date +%s) + 120))
	for pair in memcheck:gemv memcheck:quant memcheck:wide memcheck:rows racecheck:gemv racecheck:rows \
		racecheck:attention_decode memcheck:attention_decode memcheck:cuda_model \
		memcheck:sampling memcheck:sampling_facts memcheck:tail racecheck:tail racecheck:attention_rope \
		memcheck:attention_rope racecheck:quant racecheck:wide racecheck:attention_prefill; do
		tool=${pair%%:*}
		test=${pair#*:}
		time_left=$((until - $(date +%s)))
		if [ "$time_left" -lt 5 ]; then
			say "$tool $test: left out, the time is up"
			continue
		fi
		rc=0
		within "$time_left" "$checker" --tool "$tool" --error-exitcode 9 \
			"$build/tests/simt/test_device_$test" >"$log" 2>&1 || rc=$?
		case $rc in
		0) say "$tool $test: clean" ;;
		124) say "$tool $test: did not end" ;;
		*)
			missing "$tool $test: NOT clean (exit status $rc)"
			grep '=========' "$log" | head -n 12 | sed 's/^/  /' || true
			;;
		esac
	done
}

free_gb() {
	df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print int($4 / 1000000) }'
}

choose_files() {
	files=${BENCH_FILES:-/dev/shm}
	[ "$(free_gb "$files" || echo 0)" -ge 18 ] || files=${TMPDIR:-/tmp}
	[ "$(free_gb "$files")" -ge 18 ] || say "$files has less than 18 GB free; BENCH_FILES names another"
	model=$(mktemp "$files/bench-gpu-XXXXXX")
	trap 'rm -f "$model"' EXIT
	trap 'exit 1' INT TERM
}

# measure SHAPE TYPE [OPTION...]: of the file that is there, if it is that one.
measure() {
	shape=$1
	type=$2
	shift 2
	if [ "$(left)" -lt $((limit_s / 19 + 1)) ]; then
		say "$shape $type $*: left out, the time is up"
		return
	fi
	say
	say "== $shape $type $*"
	if [ "$shape $type" != "${there:-}" ]; then
		there=''
		within 120 "$build/tools/random-gguf" "$shape" "$type" "$model" ||
			{ missing "$shape $type: there is no such file, or no room for it"; return; }
		there="$shape $type"
	fi
	rm -f "$build/bench-gpu.rc"
	{
		rc=0
		within "$limit_s" "$build/tools/bench-gpu" -g "$gpu" "$@" "$model" 2>&1 || rc=$?
		echo "$rc" >"$build/bench-gpu.rc"
	} | grep --line-buffered -v '^GPU ' || true
	rc=$(cat "$build/bench-gpu.rc" 2>/dev/null || echo 124)
	[ "$rc" = 0 ] || missing "$shape $type $*: it did not work (exit status $rc)"
}

# One after the other, whatever becomes of each.
all_parts() {
	date -u '+%Y-%m-%d %H:%M UTC'
	within 20 nvidia-smi -i "$gpu" --query-gpu=name,driver_version,clocks.max.sm,power.limit \
		--format=csv,noheader 2>/dev/null || true
	[ "${BUILD:-}" = never ] || build_engine
	if [ "${BUILD:-}" = only ]; then
		pack
		return
	fi
	[ -n "${SKIP_TESTS:-}" ] || run_tests
	[ -z "${SANITIZE:-}" ] || sanitize
	within 60 "$build/tools/bench-gpu" -m -g "$gpu" 2>&1 ||
		{ missing "the GPU does not work, or there is no bench-gpu: nothing is measured"; return; }
	choose_files
	for row in ${ONLY:-8b:BF16 8b:BF16:-f 8b:Q8_0 8b:Q4_K 1b:BF16 1b:BF16:-f 1b:Q8_0 1b:Q4_K}; do
		old_ifs=$IFS
		IFS=:
		# shellcheck disable=SC2086 # a row is cut at its colons
		set -- $row
		IFS=$old_ifs
		measure "$@"
	done
	say
	say "ended after $(($(date +%s) - began)) s"
}

verdict=0
mkdir -p "$build"
log=$build/gpu-part.log
rm -f "$build/bench-gpu.verdict"
{
	all_parts
	echo "$verdict" >"$build/bench-gpu.verdict"
} 2>&1 | tee "$build/bench-gpu.txt" | tee -a "$build/bench-gpu.all"
[ "${BUILD:-}" = only ] || python3 tools/bench/gpu_table.py "$build/bench-gpu.txt" |
	tee "$build/bench-gpu.md"
exit "$(cat "$build/bench-gpu.verdict" 2>/dev/null || echo 1)"
