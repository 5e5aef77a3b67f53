/// The program of every test executable. Each test is a process of its own, so the time of its end
/// counts; what only the end shows, builds with sanitizers do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "registry/end_process.hpp"

int main(int argc, char** argv) {
  ::testing::InitGoogleMock(&argc, argv);
  seg::end_process(RUN_ALL_TESTS());
}
