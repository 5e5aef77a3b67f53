/// A web server of a few files on a port of this machine, for what downloads.
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <stdexcept>
#include <string>
#include <thread>

namespace seg::test {

class HttpServer {
 public:
  /// What a path is answered with.
  struct Answer {
    int status = 200;
    std::string body;
    std::string headers;     ///< "Location: /b\r\n"
    size_t missing_end = 0;  ///< bytes that are announced and not sent
  };

  /// Paths that are not in `answers` are answered with 404.
  explicit HttpServer(std::map<std::string, Answer> answers) : answers_(std::move(answers)) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
        listen(listener_, 8) != 0) {
      throw std::runtime_error("cannot listen on a port");
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~HttpServer() {
    shutdown(listener_, SHUT_RDWR);  // wakes accept()
    thread_.join();
    close(listener_);
  }
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// "127.0.0.1:4711"
  std::string host() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  void serve() {
    for (;;) {
      const int peer = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (peer < 0) return;
      std::string request;
      char buffer[4096];
      while (request.find("\r\n\r\n") == std::string::npos) {
        const ssize_t n = read(peer, buffer, sizeof(buffer));
        if (n <= 0) break;
        request.append(buffer, static_cast<size_t>(n));
      }
      const size_t begin = request.find(' ') + 1;
      const auto found = answers_.find(request.substr(begin, request.find(' ', begin) - begin));
      const Answer answer =
          found == answers_.end() ? Answer{404, "nothing here", "", 0} : found->second;
      const std::string reply =
          "HTTP/1.1 " + std::to_string(answer.status) +
          " x\r\nContent-Length: " + std::to_string(answer.body.size() + answer.missing_end) +
          "\r\nConnection: close\r\n" + answer.headers + "\r\n" + answer.body;
      for (size_t sent = 0; sent < reply.size();) {
        const ssize_t n = send(peer, reply.data() + sent, reply.size() - sent, MSG_NOSIGNAL);
        if (n <= 0) break;
        sent += static_cast<size_t>(n);
      }
      close(peer);
    }
  }

  std::map<std::string, Answer> answers_;
  int listener_ = -1;
  int port_ = 0;
  std::thread thread_;
};

}  // namespace seg::test
