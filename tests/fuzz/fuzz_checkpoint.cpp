// libFuzzer target: any bytes are a checkpoint that is read or refused with a message.
//
//   cmake --preset fuzz && cmake --build --preset fuzz
//   mkdir found && build/fuzz/fuzz_checkpoint -max_len=65536 -malloc_limit_mb=256 found
//   tests/data/io
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "registry/error.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/unpickle.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A file in memory: each input gets one of its own, since tensors keep the old one mapped.
  const int fd = memfd_create("fuzz", MFD_CLOEXEC);
  if (fd < 0 || write(fd, data, size) != static_cast<ssize_t>(size)) return 0;
  try {
    seg::read_checkpoint("/proc/self/fd/" + std::to_string(fd));
  } catch (const seg::CheckpointError&) {
    // Refused, as it should be.
  }
  close(fd);
  // Again as a bare pickle, which no checksum guards.
  const auto no_storage = [](const seg::StorageReference&) -> at::Tensor {
    throw seg::CheckpointError("no storages here");
  };
  try {
    seg::unpickle({reinterpret_cast<const char*>(data), size}, no_storage);
  } catch (const seg::CheckpointError&) {
    // Refused.
  }
  return 0;
}
