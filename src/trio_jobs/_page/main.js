document.body.append("trio-jobs");
