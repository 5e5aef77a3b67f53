// libFuzzer target: any bytes are a .safetensors file that is read or refused with a message. See
// fuzz_checkpoint.cpp for how to build it.
#include <ATen/ATen.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "registry/error.hpp"
#include "segcore/io/mapped_file.hpp"
#include "segcore/io/safetensors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int fd = memfd_create("fuzz", MFD_CLOEXEC);
  if (fd < 0 || write(fd, data, size) != static_cast<ssize_t>(size)) return 0;
  try {
    const auto file = seg::MappedFile::open("/proc/self/fd/" + std::to_string(fd));
    const seg::Value tensors = seg::read_safetensors(file);
    for (const auto& [name, tensor] : tensors.as_dict()) {
      // No tensor is larger than the file, and all of it can be read.
      if (tensor.as_tensor().nbytes() > size) __builtin_trap();
      tensor.as_tensor().clone();
    }
  } catch (const seg::CheckpointError&) {
    // Refused, as it should be.
  }
  close(fd);
  return 0;
}
