/// Runs a program in several processes on this machine.
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <string>
#include <vector>

#include "registry/text.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"

namespace seg::test {

/// A port that nobody listens at.
inline int free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
  socklen_t size = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  close(fd);
  return ntohs(address.sin_port);
}

/// Runs a tool in `count` processes, as torchrun does; the results are in order of the ranks.
inline std::vector<CommandResult> run_ranks(int count, const std::string& command) {
  const int port = free_port();
  std::vector<std::future<CommandResult>> running;
  for (int rank = 0; rank < count; ++rank) {
    const std::string environment =
        text("OMP_NUM_THREADS=1 RANK=", rank, " LOCAL_RANK=", rank, " WORLD_SIZE=", count,
             " MASTER_ADDR=127.0.0.1 MASTER_PORT=", port, " ");
    running.push_back(std::async(std::launch::async, [=] {
      return run_command(environment + program_path(command) + " --launcher pytorch");
    }));
  }
  std::vector<CommandResult> results;
  for (auto& one : running) results.push_back(one.get());
  return results;
}

}  // namespace seg::test
