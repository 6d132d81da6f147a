// Searches, and returns the milliseconds until the rows and their number are on the screen
async (query) => {
    const before = document.querySelector("main").firstElementChild;
    const start = performance.now();
    location.hash = query ? `#/jobs?q=${encodeURIComponent(query)}` : "#/jobs";
    for (;;) {
        await new Promise((done) => requestAnimationFrame(done));
        const now = document.querySelector("main").firstElementChild;
        if (now !== before && now.querySelector("tr[data-job], p.empty") && now.querySelector("p.count").textContent) break;
    }
    return performance.now() - start;
}
