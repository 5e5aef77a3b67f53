// Threads of LibTorch that wait for each other soon sleep instead of spinning, so that a busy
// machine has their cores for those that work.
//
// OpenMP reads how to wait while its library is loaded, before main and before any constructor of
// ours. What an executable runs before its libraries are initialised is .preinit_array; there the
// environment can only be changed where the kernel wrote it, as the C library takes it from there
// afterwards, and nothing can be added. So two variables that shells keep for themselves make room.
// Where there are none, the program is executed once more, in the same process, with two more. That
// costs 25 ms: the libraries are mapped and linked twice, but initialised once.
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
  char **last_command = nullptr, **shell_depth = nullptr;
  for (; environment[count]; ++count) {
    // What the user chose stays; and so the second execution ends here.
    const char* entry = environment[count];
    if (sets(entry, "OMP_WAIT_POLICY") || sets(entry, "GOMP_SPINCOUNT")) return;
    if (sets(entry, "KMP_BLOCKTIME")) return;
    if (sets(entry, "_")) last_command = environment + count;
    if (sets(entry, "SHLVL")) shell_depth = environment + count;
  }
  static char passive[] = "OMP_WAIT_POLICY=passive";
  // About 25 us in GNU's OpenMP, which most barriers take. Without it a step would take up to a
  // quarter longer where no other program wants the cores.
  static char spins[] = "GOMP_SPINCOUNT=2500";
  if (last_command && shell_depth) {
    *last_command = passive;
    *shell_depth = spins;
    return;
  }
  const auto* file = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  if (!file || !started_directly()) return;
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
