#include "runners/dist/gloo_devices.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace seg {
namespace {

constexpr const char* kLoopback = "127.0.0.1";

/// The address of this machine from which packets to `host` would be sent; none is. "" where there
/// is no way to it.
std::string address_towards(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  // Any port: a datagram socket only looks up the route.
  if (getaddrinfo(host.c_str(), "9", &hints, &found) != 0) return "";
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);
  for (const addrinfo* one = found; one; one = one->ai_next) {
    const int route = socket(one->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (route < 0) continue;
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    std::array<char, NI_MAXHOST> name{};
    const bool known = connect(route, one->ai_addr, one->ai_addrlen) == 0 &&
                       getsockname(route, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
                       getnameinfo(reinterpret_cast<sockaddr*>(&own), size, name.data(),
                                   name.size(), nullptr, 0, NI_NUMERICHOST) == 0;
    close(route);
    if (known) return name.data();
  }
  return "";
}

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1";
}

}  // namespace

std::vector<std::shared_ptr<gloo::transport::Device>> gloo_devices(const std::string& host) {
  using Gloo = c10d::ProcessGroupGloo;
  std::vector<std::shared_ptr<gloo::transport::Device>> out;
  if (const char* given = std::getenv("GLOO_SOCKET_IFNAME"); given && *given != '\0') {
    for (std::string names = given; !names.empty();) {
      const size_t comma = names.find(',');
      out.push_back(Gloo::createDeviceForInterface(names.substr(0, comma)));
      names.erase(0, comma == std::string::npos ? comma : comma + 1);
    }
    return out;
  }
  std::string own = host == "localhost" || host == kLoopback ? kLoopback : address_towards(host);
  // Debian gives a machine's own name to 127.0.1.1, where no other machine reaches it. The default
  // route shows its real address; 192.0.2.0/24 is kept free for examples (RFC 5737).
  if (is_loopback(own) && own != kLoopback) own = address_towards("192.0.2.1");
  out.push_back(own.empty() ? Gloo::createDefaultDevice() : Gloo::createDeviceForHostname(own));
  return out;
}

}  // namespace seg
