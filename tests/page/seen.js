// What a page shows that job data must not be able to make
() => {
    const odd = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u2028\u2029]/;
    return {
        odd: odd.test(document.body.innerText), images: document.images.length, bold: document.querySelectorAll("b").length,
        scripts: document.scripts.length, wide: document.documentElement.scrollWidth > innerWidth,
        links: [...document.links].map((link) => link.getAttribute("href")).filter((href) => !href.startsWith("#/") && href !== "#content"),
        bare: [...document.querySelectorAll("a.job")].filter((link) => !link.querySelector("bdi, .id")).length,
    };
}
