#include "runners/checkpoint/writer.hpp"

#include <utility>

#include "segcore/io/checkpoint.hpp"

namespace seg {

CheckpointWriter::~CheckpointWriter() {
  if (thread_.joinable()) thread_.join();
}

void CheckpointWriter::write(std::string path, Value contents, std::function<void()> then) {
  wait();
  thread_ = std::thread(
      [this, path = std::move(path), contents = std::move(contents), then = std::move(then)] {
        try {
          write_checkpoint(path, contents);
          if (then) then();
        } catch (...) {
          failure_ = std::current_exception();
        }
      });
}

void CheckpointWriter::wait() {
  if (thread_.joinable()) thread_.join();
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

}  // namespace seg
