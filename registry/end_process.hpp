/// The end of a program.
#pragma once

namespace seg {

/// Ends the process without destroying its static objects: LibTorch's take its thousands of
/// operators out of tables one by one, a fifth of the time of `tools/print_config --help`. Streams
/// are flushed. With sanitizers, which report when statics are destroyed, it ends as any other.
[[noreturn]] void end_process(int code);

}  // namespace seg
