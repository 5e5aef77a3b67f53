// Threads of LibTorch that wait for each other soon sleep instead of spinning, so that a busy
// machine has their cores for those that work.
//
// OpenMP reads how to wait while its library is loaded, before main and before any constructor of
// ours. What an executable runs before its libraries are initialised is .preinit_array; there the
// environment cannot be changed yet, as the C library takes it from the kernel's copy afterwards.
// So the program is executed once more, in the same process, with the variables set. That costs
// 20 ms: the libraries are mapped and linked twice, but initialised once.
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <cstdint>

extern "C" const ElfW(Ehdr) __ehdr_start;  // of this executable, from the linker

// Nothing is initialised yet: neither the C library's environment nor a sanitizer.
#define SEG_BEFORE_EVERYTHING __attribute__((no_sanitize("address", "thread", "undefined")))

namespace {

SEG_BEFORE_EVERYTHING bool sets(const char* entry, const char* name) {
  while (*name != '\0' && *entry == *name) ++entry, ++name;
  return *name == '\0' && *entry == '=';
}

/// Whether the kernel started this file itself, and not a loader that was given its name.
SEG_BEFORE_EVERYTHING bool started_directly() {
  const auto begin = reinterpret_cast<uintptr_t>(&__ehdr_start);
  return getauxval(AT_PHDR) == begin + __ehdr_start.e_phoff;
}

SEG_BEFORE_EVERYTHING void sleep_while_waiting(int, char** argv, char** environment) {
  size_t count = 0;
  for (; environment[count]; ++count) {
    // What the user chose stays; and so the second execution ends here.
    const char* entry = environment[count];
    if (sets(entry, "OMP_WAIT_POLICY") || sets(entry, "GOMP_SPINCOUNT")) return;
    if (sets(entry, "KMP_BLOCKTIME")) return;
  }
  const auto* file = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  if (!file || !started_directly()) return;
  static char passive[] = "OMP_WAIT_POLICY=passive";
  // About 25 us in GNU's OpenMP, which most barriers take. Without it a step would take up to a
  // quarter longer where no other program wants the cores.
  static char spins[] = "GOMP_SPINCOUNT=2500";
  auto** extended = static_cast<char**>(__builtin_alloca((count + 3) * sizeof(char*)));
  for (size_t i = 0; i < count; ++i) extended[i] = environment[i];
  extended[count] = passive;
  extended[count + 1] = spins;
  extended[count + 2] = nullptr;
  execve(file, argv, extended);  // if it fails, threads spin
}

}  // namespace

// Its name lets programs ask the linker for this file, which nothing else refers to.
extern "C" {
__attribute__((section(".preinit_array"),
               used)) void (*segcore_wait_policy)(int, char**, char**) = sleep_while_waiting;
}
