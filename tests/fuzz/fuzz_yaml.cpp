// libFuzzer target: any bytes are a configuration that is read or refused with a message, and what
// was read is written so that it reads back. See fuzz_checkpoint.cpp for how to build it.
#include <cstdint>
#include <string>

#include "registry/yaml.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  seg::Config config;
  try {
    config = seg::parse_config({reinterpret_cast<const char*>(data), size});
  } catch (const seg::ConfigError&) {
    return 0;  // refused, as it should be
  }
  const std::string written = seg::dump_yaml(config);
  // What cannot be read back ends the target: no exception is caught here.
  if (seg::dump_yaml(seg::parse_config(written)) != written) __builtin_trap();
  seg::parse_config(seg::dump_flow(config));
  return 0;
}
