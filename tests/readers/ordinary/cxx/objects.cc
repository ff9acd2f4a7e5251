// Deaths in methods, templates, lambdas, containers and coroutines.
#include "../c/death.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <coroutine>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

namespace shapes {

volatile int two = 2;

struct Shape {
    virtual ~Shape() = default;
    virtual int area() const = 0;
    NOINLINE int twice() const { return area() * 2; }
};
struct Named {
    virtual ~Named() = default;
    virtual const char *name() const { return "named"; }
};
struct Square : Shape, Named {
    int side = 0;
    NOINLINE int area() const override { return side == two ? die() : side * side; }
    NOINLINE const char *name() const override { return side == two ? (die(), "") : "square"; }
};
// A pure virtual function called by a constructor's helper, before there is a Square.
struct Careless {
    Careless() { helper(); }
    virtual ~Careless() = default;
    virtual int pure() const = 0;
    NOINLINE void helper() const { two = pure(); }
};
struct Careful : Careless {
    int pure() const override { return 1; }
};

template <typename T, int N>
struct Matrix {
    T values[N][N] = {};
    NOINLINE T trace(const std::function<T(T)> &map) const {
        T sum{};
        for (int i = 0; i < N; i++)
            sum += map(values[i][i]);
        return sum;
    }
};

template <typename Iterator, typename Function>
NOINLINE void for_each_pair(Iterator begin, Iterator end, Function function) {
    for (; begin != end; ++begin)
        function(begin->first, begin->second);
}

void virtual_call_on_null() {
    Shape *volatile none = nullptr;
    two = none->twice();
}
void in_virtual() {
    Square square;
    square.side = two;
    const Shape *volatile shape = &square;
    two = shape->twice();
}
void through_thunk() {
    Square square;
    square.side = two;
    const Named *volatile named = &square;
    puts(named->name());
}
void pure_virtual() { Careful careful; }
void in_lambda() {
    Matrix<double, 3> matrix;
    two = (int)matrix.trace([](double value) { return value == 0 ? die() : value; });
}
void in_algorithm() {
    std::vector<std::string> words{"b", "a", "c", "e", "d"};
    std::sort(words.begin(), words.end(), [](const std::string &a, const std::string &b) {
        return a == "e" ? die() != 0 : a < b;
    });
}
void in_template() {
    std::map<std::string, std::vector<int>> map{{"one", {1}}, {"two", {1, 2}}};
    for_each_pair(map.begin(), map.end(), [](const std::string &name, std::vector<int> &values) {
        two = values.size() == 2 ? die() : (int)name.size();
    });
}
void in_deleter() {
    std::shared_ptr<int> shared(new int(3), [](int *value) { delete value, die(); });
    auto copy = shared;
    shared.reset();
    copy.reset();
}
void dangling() {
    std::list<int> *volatile list = new std::list<int>{1, 2};
    memset((void *)list, 0x11, sizeof *list);
    two = std::accumulate(list->begin(), list->end(), 0);
}
struct Global {
    ~Global() {
        if (two == 7)
            die();
    }
} global;
void static_destructor() {
    two = 7;
    exit(0);
}
void with_waiting_threads() {
    static std::mutex mutex, condition_mutex;
    static std::shared_mutex shared;
    static std::condition_variable condition;
    static std::atomic<int> word{1};
    static std::atomic<int> ready{0};
    mutex.lock();
    shared.lock();
    auto start = [](const char *name, auto wait) {
        std::thread([=] {
            pthread_setname_np(pthread_self(), name);
            ready++;
            wait();
        }).detach();
    };
    start("mutex", [] { mutex.lock(); });
    start("shared", [] { shared.lock_shared(); });
    start("condition", [] {
        std::unique_lock lock(condition_mutex);
        condition.wait(lock, [] { return two == 9; });
    });
    start("sleep", [] { std::this_thread::sleep_for(std::chrono::seconds(60)); });
    start("atomic", [] { word.wait(1); });
    while (ready < 5)
        std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    die();
}

// A generator: its body runs as a function of its own, resumed by whoever asks for the next value.
struct Generator {
    struct promise_type {
        int value = 0;
        Generator get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        std::suspend_always yield_value(int next) noexcept {
            value = next;
            return {};
        }
        void return_void() noexcept {}
        void unhandled_exception() { std::terminate(); }
    };
    std::coroutine_handle<promise_type> handle;
    NOINLINE int next() {
        handle.resume();
        return handle.promise().value;
    }
};
Generator numbers(int until) {
    for (int i = 0; i < until; i++)
        co_yield i == two ? die() : i;
}
Generator throwing(int until) {
    co_yield until;
    throw std::runtime_error("in a coroutine");
}
void in_coroutine() {
    auto generator = numbers(5);
    for (int i = 0; i < 5; i++)
        two = generator.next() + 2 - i;
}
void throw_in_coroutine() {
    auto generator = throwing(5);
    two = generator.next() + generator.next();
}

}  // namespace shapes

int main(int argc, char **argv) {
    using namespace shapes;
    static const death deaths[] = {
        {"virtual-call-on-null", virtual_call_on_null}, {"in-virtual", in_virtual}, {"through-thunk", through_thunk},
        {"pure-virtual", pure_virtual}, {"in-lambda", in_lambda}, {"in-algorithm", in_algorithm},
        {"in-template", in_template}, {"in-deleter", in_deleter}, {"dangling", dangling},
        {"static-destructor", static_destructor}, {"waiting-threads", with_waiting_threads},
        {"in-coroutine", in_coroutine}, {"throw-in-coroutine", throw_in_coroutine},
    };
    return DISPATCH(deaths, argc, argv);
}
