/// The network by which Gloo connects the processes of a run.
#pragma once
#include <memory>
#include <string>
#include <vector>

namespace gloo::transport {
class Device;
}

namespace seg {

/// Devices for the address of this machine that `host`, where the processes meet, is reached from,
/// which need not be the one that the machine's own name stands for. GLOO_SOCKET_IFNAME names other
/// interfaces, as in PyTorch: "eth1", "ib0,ib1".
std::vector<std::shared_ptr<gloo::transport::Device>> gloo_devices(const std::string& host);

}  // namespace seg
